//! From shapes to grammar rules: for each set of subschemas that a value must satisfy at once, a node with the ways to
//! write such a value.
//!
//! Each set gets one node, so recursive schemas terminate. Nodes that no text can satisfy are found here, before a
//! token is generated, with the reason and its place.

use super::json::{Json, quoted};
use super::number::Numbers;
use super::read::{Fault, Reader};
use super::regex::{self, and, anything, either, literal, not};
use super::shape::{Lists, Objects, Shape, SubSchema, Texts};
use hashbrown::HashMap;
use llguidance::derivre::RegexAst;

/// A node, as an index.
pub type Node = usize;

/// A way to write a value.
#[derive(Debug)]
pub enum Form {
    /// A number, a string, `true`, `false` or `null`.
    Scalar(RegexAst),
    /// An array.
    List(ListForm),
    /// An object.
    Object(ObjectForm),
}

/// An array: its leading elements, then the rest.
#[derive(Debug)]
pub struct ListForm {
    pub lead: Vec<Element>,
    pub rest: Element,
    pub least: usize,
    pub most: Option<usize>,
    /// Minimum and maximum number of elements that satisfy `contains`.
    pub matching: Option<(usize, Option<usize>)>,
}

/// An element: any allowed one; with `contains`, also one that satisfies it and, if matches have a maximum, one that
/// does not.
#[derive(Debug, Clone, Copy)]
pub struct Element {
    pub any: Node,
    pub matching: Option<Node>,
    pub other: Option<Node>,
}

/// An object: named members in order, then others.
#[derive(Debug)]
pub struct ObjectForm {
    pub members: Vec<Member>,
    /// Other members: a regex for the name as a JSON string, and the value's node.
    pub others: Vec<(RegexAst, Node)>,
    pub least: usize,
    pub most: Option<usize>,
}

/// A named member.
#[derive(Debug)]
pub struct Member {
    pub name: String,
    pub required: bool,
    pub node: Node,
}

/// What is known about a node.
#[derive(Default)]
struct Known {
    parts: Vec<SubSchema>,
    forms: Vec<Form>,
    /// Why other forms are impossible.
    reasons: Vec<String>,
    possible: bool,
}

/// Nodes and their forms.
pub struct GrammarPlan {
    nodes: Vec<Known>,
}

/// Most nodes.
const NODES_MAX: usize = 20_000;
/// Most `patternProperties` at once: each subset of them makes a kind of name.
const PATTERNS_MAX: usize = 4;

impl GrammarPlan {
    /// The plan for values that satisfy these parts, one root for each.
    pub fn new(reader: &mut Reader<'_>, roots: &[SubSchema]) -> Result<(Self, Vec<Node>), Fault> {
        let mut maker = Maker { reader, nodes: Vec::new(), by_parts: HashMap::new() };
        let roots: Vec<Node> = roots.iter().map(|part| maker.node(vec![*part])).collect();
        let mut next = 0;
        while next < maker.nodes.len() {
            if next >= NODES_MAX {
                return Err(Fault { document: 0, text: "it has too many subschemas".to_owned() });
            }
            maker.fill(next)?;
            next += 1;
        }
        let mut plan = Self { nodes: maker.nodes };
        plan.find_possible();
        for root in &roots {
            if !plan.is_possible(*root) {
                return Err(plan.blame(reader, *root));
            }
        }
        Ok((plan, roots))
    }

    /// The ways to write a node's value.
    pub fn forms(&self, node: Node) -> &[Form] {
        &self.nodes[node].forms
    }

    /// Whether any text satisfies a node.
    pub fn is_possible(&self, node: Node) -> bool {
        self.nodes[node].possible
    }

    /// Marks the nodes that some text satisfies, up to a fixed point.
    fn find_possible(&mut self) {
        loop {
            let mut changed = false;
            // Backwards: children come after their parents.
            for node in (0..self.nodes.len()).rev() {
                if !self.nodes[node].possible
                    && self.nodes[node].forms.iter().any(|form| self.obstacle(form).is_none())
                {
                    self.nodes[node].possible = true;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// An impossible node that a form can't do without, if there is one.
    fn obstacle(&self, form: &Form) -> Option<Node> {
        let impossible = |node: Node| (!self.nodes[node].possible).then_some(node);
        match form {
            Form::Scalar(_) => None,
            Form::List(list) => {
                let needed =
                    (0..list.least).map(|index| list.lead.get(index).unwrap_or(&list.rest));
                let needed = needed.take(list.lead.len() + 1);
                let missing = needed.map(|e| e.any).find_map(impossible);
                missing.or_else(|| match list.matching {
                    Some((least, _)) if least > 0 => {
                        let all = list.lead.iter().chain([&list.rest]).filter_map(|e| e.matching);
                        let mut all = all.peekable();
                        let first = all.peek().copied()?;
                        (!all.any(|node| self.nodes[node].possible)).then_some(first)
                    }
                    _ => None,
                })
            }
            Form::Object(object) => {
                let required = object.members.iter().filter(|member| member.required);
                required.map(|member| member.node).find_map(impossible)
            }
        }
    }

    /// Why no text satisfies a node, and where the cause is.
    fn blame(&self, reader: &Reader<'_>, root: Node) -> Fault {
        let (mut node, mut seen) = (root, Vec::new());
        loop {
            seen.push(node);
            let known = &self.nodes[node];
            let place = known.parts.iter().find_map(|part| match part {
                SubSchema::Is(place) | SubSchema::Not(place) | SubSchema::Value(place) => {
                    Some(*place)
                }
                SubSchema::Never => None,
            });
            let fault = |text: &str| match place {
                Some(place) => reader.fault(place, text),
                None => Fault { document: 0, text: format!("#{text}") },
            };
            let next = known.forms.iter().find_map(|form| self.obstacle(form));
            match next {
                Some(next) if seen.contains(&next) => {
                    return fault(
                        ": infinite recursion: every value would have to contain another",
                    );
                }
                // Report a forbidden part at the place that requires it.
                Some(next) if self.is_forbidden(reader, next) => {
                    return fault(&format!(": {}", Self::forbidden(known, next)));
                }
                Some(next) => node = next,
                None => {
                    let others: Vec<String> = known
                        .parts
                        .iter()
                        .filter_map(|part| match part {
                            SubSchema::Is(place)
                            | SubSchema::Not(place)
                            | SubSchema::Value(place) => Some(reader.places.shown(*place)),
                            SubSchema::Never => None,
                        })
                        .collect();
                    let reason = match known.reasons.first() {
                        Some(reason) => reason.clone(),
                        None if others.len() > 1 => {
                            format!("no value satisfies {} at once", others.join(" and "))
                        }
                        None => "no value satisfies it".to_owned(),
                    };
                    return fault(&format!(": {reason}"));
                }
            }
        }
    }

    fn is_forbidden(&self, reader: &Reader<'_>, node: Node) -> bool {
        self.nodes[node].parts.iter().any(|part| match part {
            SubSchema::Is(place) => *reader.places.value(*place) == Json::Bool(false),
            SubSchema::Never => true,
            SubSchema::Not(_) | SubSchema::Value(_) => false,
        })
    }

    fn forbidden(known: &Known, node: Node) -> String {
        let names = known.forms.iter().filter_map(|form| match form {
            Form::Object(object) => object.members.iter().find(|m| m.required && m.node == node),
            _ => None,
        });
        match names.map(|member| &member.name).next() {
            Some(name) => {
                let name = quoted(name);
                format!("{name} is required, but the schema does not allow it")
            }
            None => "an item is required, but the schema does not allow it".to_owned(),
        }
    }
}

struct Maker<'a, 'j> {
    reader: &'a mut Reader<'j>,
    nodes: Vec<Known>,
    by_parts: HashMap<Vec<SubSchema>, Node>,
}

impl Maker<'_, '_> {
    /// The node for values that satisfy all of `parts`.
    fn node(&mut self, mut parts: Vec<SubSchema>) -> Node {
        let mut key = parts.clone();
        key.sort_unstable();
        key.dedup();
        if let Some(node) = self.by_parts.get(&key) {
            return *node;
        }
        // Keep the order of first mention: it decides the order of members.
        let mut seen = hashbrown::HashSet::new();
        parts.retain(|part| seen.insert(*part));
        let node = self.nodes.len();
        self.by_parts.insert(key, node);
        self.nodes.push(Known { parts, ..Known::default() });
        node
    }

    /// A fault in the combination of these parts.
    fn fault(&self, parts: &[SubSchema], text: &str) -> Fault {
        match parts.first() {
            Some(SubSchema::Is(place) | SubSchema::Not(place) | SubSchema::Value(place)) => {
                self.reader.fault(*place, text)
            }
            _ => Fault { document: 0, text: format!("#{text}") },
        }
    }

    /// Finds the forms of a node.
    fn fill(&mut self, node: Node) -> Result<(), Fault> {
        let parts = self.nodes[node].parts.clone();
        if parts.contains(&SubSchema::Never) {
            return Ok(());
        }
        let mut shapes: Option<Vec<Shape>> = None;
        for part in &parts {
            let (SubSchema::Is(place) | SubSchema::Not(place) | SubSchema::Value(place)) = *part
            else {
                continue;
            };
            let more = self.reader.shapes(*part)?;
            shapes = Some(match shapes {
                None => more.to_vec(),
                Some(shapes) => self.reader.both(place, &shapes, &more)?,
            });
        }
        let (mut forms, mut reasons) = (Vec::new(), Vec::new());
        for shape in shapes.unwrap_or_else(Shape::all) {
            let form = match shape {
                Shape::Null => Ok(Form::Scalar(literal("null"))),
                Shape::Bool(value) => {
                    Ok(Form::Scalar(literal(if value { "true" } else { "false" })))
                }
                Shape::Number(numbers) => number(&numbers),
                Shape::Text(texts) => {
                    texts.check().map_err(|problem| self.fault(&parts, &problem))?;
                    text(&texts)
                }
                Shape::List(lists) => self.list(&lists)?,
                Shape::Object(objects) => self.object(&parts, &objects)?,
            };
            match form {
                Ok(form) => forms.push(form),
                Err(reason) => reasons.push(reason),
            }
        }
        (self.nodes[node].forms, self.nodes[node].reasons) = (forms, reasons);
        Ok(())
    }

    fn list(&mut self, lists: &Lists) -> Result<Result<Form, String>, Fault> {
        if let Some(most) = lists.most.filter(|most| lists.least > *most) {
            return Ok(Err(format!("`minItems` is {}, but `maxItems` is {most}", lists.least)));
        }
        if let Some(place) = lists.unique.filter(|_| lists.most.is_none_or(|most| most > 1)) {
            return Err(self.reader.not_unique(place));
        }
        let contains = match lists.contains.as_slice() {
            [] => None,
            [one] => Some(*one),
            [_, other, ..] => {
                return Err(self.reader.fault(
                    other.place,
                    ": more than one `contains` for the same array is not supported",
                ));
            }
        };
        let mut element = |index: usize| {
            let parts = lists.element(index);
            let with = |part: SubSchema| parts.iter().copied().chain([part]).collect::<Vec<_>>();
            let matching = contains.map(|c| self.node(with(c.part)));
            let counted = contains.filter(|c| c.most.is_some());
            let other = counted.map(|c| {
                self.node(with(match c.part {
                    SubSchema::Is(place) => SubSchema::Not(place),
                    SubSchema::Not(place) => SubSchema::Is(place),
                    part => part,
                }))
            });
            Element { any: self.node(parts), matching, other }
        };
        let lead = lists.lead().min(lists.most.unwrap_or(usize::MAX));
        let (least, most) = (lists.least, lists.most);
        let rest = element(lists.lead());
        let lead = (0..lead).map(element).collect();
        let matching = contains.map(|c| (c.least, c.most));
        Ok(Ok(Form::List(ListForm { lead, rest, least, most, matching })))
    }

    fn object(
        &mut self,
        parts: &[SubSchema],
        objects: &Objects,
    ) -> Result<Result<Form, String>, Fault> {
        let (least, most) = (objects.least, objects.most);
        if let Some(most) = most.filter(|most| least > *most) {
            return Ok(Err(format!("`minProperties` is {least}, but `maxProperties` is {most}")));
        }
        if let Some(most) = most.filter(|most| objects.required.len() > *most) {
            return Ok(Err(format!(
                "{} properties are required, but `maxProperties` is {most}",
                objects.required.len()
            )));
        }
        let required: hashbrown::HashSet<&String> = objects.required.iter().collect();
        let mut names: Vec<String> = objects.known().into_iter().map(ToOwned::to_owned).collect();
        let mut closed = objects.is_closed();
        // If all allowed names are listed, they are ordinary members.
        if !closed && let Some(listed) = listed_names(objects) {
            let mut seen: hashbrown::HashSet<String> = names.iter().cloned().collect();
            names.extend(listed.into_iter().filter(|name| seen.insert(name.clone())));
            closed = true;
        }
        let mut members = Vec::new();
        for (name, parts) in names.iter().zip(objects.members(&names)) {
            let node = self.node(parts);
            members.push(Member { name: name.clone(), required: required.contains(name), node });
        }
        let others = if closed { Vec::new() } else { self.others(parts, objects, &names)? };
        if members.len() < least && others.is_empty() {
            return Ok(Err(format!(
                "`minProperties` is {least}, but only {} properties are allowed",
                members.len()
            )));
        }
        Ok(Ok(Form::Object(ObjectForm { members, others, least, most })))
    }

    /// Members with names other than `names`: one kind for each set of patterns that a name may match.
    fn others(
        &mut self,
        parts: &[SubSchema],
        objects: &Objects,
        names: &[String],
    ) -> Result<Vec<(RegexAst, Node)>, Fault> {
        let mut patterns: Vec<(&String, &RegexAst)> = Vec::new();
        for (source, ast, _) in objects.rules.iter().flat_map(|rule| &rule.patterns) {
            if !patterns.iter().any(|(known, _)| *known == source) {
                patterns.push((source, ast));
            }
        }
        if patterns.len() > PATTERNS_MAX {
            let text = format!(
                ": found {} `patternProperties` for the same object, expected at most {PATTERNS_MAX}",
                patterns.len()
            );
            return Err(self.fault(parts, &text));
        }
        let mut others = Vec::new();
        for set in 0..1_u32 << patterns.len() {
            let matched = |index: usize| set >> index & 1 == 1;
            let matches = |source: &String| {
                patterns.iter().position(|(known, _)| *known == source).is_some_and(matched)
            };
            let mut inner = Vec::new();
            for rule in &objects.rules {
                let mut told = false;
                for (source, _, part) in &rule.patterns {
                    if matches(source) {
                        told = true;
                        inner.extend(*part);
                    }
                }
                if !told {
                    inner.extend(rule.rest);
                }
            }
            let node = self.node(inner);
            if self.nodes[node].parts.contains(&SubSchema::Never) {
                continue;
            }
            let mut all = Vec::new();
            for (index, (_, ast)) in patterns.iter().enumerate() {
                all.push(if matched(index) { (*ast).clone() } else { not((*ast).clone()) });
            }
            for sets in &objects.names {
                all.push(either(sets.iter().map(Texts::content).collect()));
            }
            if !names.is_empty() {
                all.push(not(either(names.iter().map(|name| literal(name)).collect())));
            }
            let plain = all.is_empty();
            let content = if plain { anything() } else { and(all) };
            if plain || !regex::is_empty(&content) {
                others.push((regex::string(content), node));
            }
        }
        Ok(others)
    }
}

/// All names that `propertyNames` allows, if it lists them.
fn listed_names(objects: &Objects) -> Option<Vec<String>> {
    let sets = objects.names.iter().find(|sets| sets.iter().all(|set| set.only.is_some()))?;
    let listed = sets.iter().filter_map(Texts::listed).flatten();
    Some(listed.cloned().collect())
}

fn number(numbers: &Numbers) -> Result<Form, String> {
    if let Some(gap) = numbers.gap() {
        return Err(gap);
    }
    let ast = numbers.expression();
    if *numbers != Numbers::default() && regex::is_empty(&ast) {
        return Err("no number satisfies all of its keywords".to_owned());
    }
    Ok(Form::Scalar(ast))
}

fn text(texts: &Texts) -> Result<Form, String> {
    match texts.gap() {
        Some(gap) => Err(gap),
        None => Ok(Form::Scalar(texts.expression())),
    }
}
