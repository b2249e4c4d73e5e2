//! Sets of values of one type, and their intersections.
//!
//! A schema is a list of shapes, and a value must have one of them. Elements and members remain places in the schema,
//! so schemas may be recursive.

use super::number::Numbers;
use super::places::Place;
use super::regex::{self, Matcher, and, anything, either, exact, literal};
use llguidance::derivre::RegexAst;

/// Most regexes that one string must match: their states multiply.
const EXPRESSIONS_MAX: usize = 8;

/// A requirement on a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubSchema {
    /// It satisfies the schema at a place.
    Is(Place),
    /// It does not satisfy the schema at a place.
    Not(Place),
    /// It equals the value at a place.
    Value(Place),
    /// No value satisfies this.
    Never,
}

/// A set of values of one type.
#[derive(Debug, Clone)]
pub enum Shape {
    Null,
    Bool(bool),
    Number(Numbers),
    Text(Texts),
    List(Lists),
    Object(Objects),
}

/// A set of strings.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    /// If given, only these strings.
    pub only: Option<Vec<String>>,
    /// Regexes that they must all match.
    pub all: Vec<RegexAst>,
    /// Characters at least.
    pub least: usize,
    /// Characters at most.
    pub most: Option<usize>,
}

/// A set of arrays.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    /// Rules for the elements, all of which apply.
    pub rules: Vec<ListRule>,
    pub least: usize,
    pub most: Option<usize>,
    /// Requirements that some of the elements satisfy.
    pub contains: Vec<Contains>,
    /// The place of the schema with `uniqueItems`, if there is one.
    pub unique: Option<Place>,
}

/// Requirements on elements: first the leading ones, then the rest.
#[derive(Debug, Clone, Default)]
pub struct ListRule {
    pub lead: Vec<Option<SubSchema>>,
    pub rest: Option<SubSchema>,
    /// Whether `unevaluatedItems` still applies to these elements: a negated schema evaluates nothing.
    pub silent: bool,
}

/// How many elements satisfy a requirement.
#[derive(Debug, Clone, Copy)]
pub struct Contains {
    /// The place to name in errors.
    pub place: Place,
    pub part: SubSchema,
    pub least: usize,
    pub most: Option<usize>,
}

/// A set of objects.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Rules for the members, all of which apply.
    pub rules: Vec<ObjectRule>,
    pub required: Vec<String>,
    /// Requirements on names: for each, a name is in one of its sets.
    pub names: Vec<Vec<Texts>>,
    pub least: usize,
    pub most: Option<usize>,
}

/// Requirements on members: by name, by pattern of the name, and for all others.
#[derive(Debug, Clone, Default)]
pub struct ObjectRule {
    pub members: Vec<(String, Option<SubSchema>)>,
    pub patterns: Vec<(String, RegexAst, Option<SubSchema>)>,
    pub rest: Option<SubSchema>,
    /// Whether it lists the members that may exist; otherwise it only restricts some of them, if present.
    pub lists: bool,
    /// Whether `unevaluatedProperties` still applies to these members: a negated schema evaluates nothing.
    pub silent: bool,
}

impl Shape {
    /// All values.
    pub fn all() -> Vec<Self> {
        vec![
            Self::Null,
            Self::Bool(true),
            Self::Bool(false),
            Self::Number(Numbers::default()),
            Self::Text(Texts::default()),
            Self::List(Lists::default()),
            Self::Object(Objects::default()),
        ]
    }

    /// The same shape with `lists` off and, if `silent`, with its rules evaluating nothing.
    pub fn hushed(&self, silent: bool) -> Self {
        let mut shape = self.clone();
        match &mut shape {
            Self::List(lists) => lists.rules.iter_mut().for_each(|rule| rule.silent |= silent),
            Self::Object(objects) => objects.rules.iter_mut().for_each(|rule| {
                rule.lists = false;
                rule.silent |= silent;
            }),
            _ => {}
        }
        shape
    }

    /// The intersection; `None` if it is certainly empty.
    pub fn and(&self, other: &Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Null, Self::Null) => Self::Null,
            (Self::Bool(a), Self::Bool(b)) if a == b => Self::Bool(*a),
            (Self::Number(a), Self::Number(b)) => Self::Number(a.and(b)?),
            (Self::Text(a), Self::Text(b)) => Self::Text(a.and(b)),
            (Self::List(a), Self::List(b)) => Self::List(a.and(b)),
            (Self::Object(a), Self::Object(b)) => Self::Object(a.and(b)),
            _ => return None,
        })
    }
}

impl Texts {
    fn and(&self, other: &Self) -> Self {
        let only = match (&self.only, &other.only) {
            (Some(a), Some(b)) => {
                let b: hashbrown::HashSet<&String> = b.iter().collect();
                Some(a.iter().filter(|text| b.contains(text)).cloned().collect())
            }
            (one, None) | (None, one) => one.clone(),
        };
        Self {
            only,
            all: self.all.iter().chain(&other.all).cloned().collect(),
            least: self.least.max(other.least),
            most: least_of(self.most, other.most),
        }
    }

    /// Refuses more regexes at once than can be followed.
    pub fn check(&self) -> Result<(), String> {
        match self.all.len() {
            0..=EXPRESSIONS_MAX => Ok(()),
            found => Err(format!(
                ": found {found} patterns and formats for the same string, expected at most {EXPRESSIONS_MAX}"
            )),
        }
    }

    /// The strings in the set, if they are listed.
    pub fn listed(&self) -> Option<Vec<&String>> {
        let only = self.only.as_ref()?;
        let mut test = self.test();
        Some(only.iter().filter(|text| test(text)).collect())
    }

    /// Tests whether a string is in the set, leaving `only` aside.
    fn test(&self) -> impl FnMut(&str) -> bool {
        let (least, most) = (self.least, self.most.unwrap_or(usize::MAX));
        let mut all: Vec<Matcher> = self.all.iter().map(Matcher::new).collect();
        move |text| {
            let fits = (least..=most).contains(&text.chars().count());
            fits && all.iter_mut().all(|matcher| matcher.is_match(text))
        }
    }

    /// Why the set is empty, if it is.
    pub fn gap(&self) -> Option<String> {
        if let Some(most) = self.most.filter(|most| self.least > *most) {
            return Some(format!("`minLength` is {}, but `maxLength` is {most}", self.least));
        }
        let empty = match self.listed() {
            Some(listed) => listed.is_empty(),
            None => !self.all.is_empty() && regex::is_empty(&self.content()),
        };
        empty.then(|| "no string satisfies all of its keywords".to_owned())
    }

    /// A regex for the strings.
    pub fn content(&self) -> RegexAst {
        if let Some(listed) = self.listed() {
            return either(listed.into_iter().map(|text| literal(text)).collect());
        }
        let mut all = self.all.clone();
        if self.least > 0 || self.most.is_some() {
            all.push(regex::length(self.least, self.most));
        }
        if all.is_empty() { anything() } else { and(all) }
    }

    /// A regex for the strings as JSON.
    pub fn expression(&self) -> RegexAst {
        match self.listed() {
            Some(listed) => either(listed.into_iter().map(|text| exact(text)).collect()),
            None => regex::string(self.content()),
        }
    }
}

impl Lists {
    fn and(&self, other: &Self) -> Self {
        Self {
            rules: self.rules.iter().chain(&other.rules).cloned().collect(),
            least: self.least.max(other.least),
            most: least_of(self.most, other.most),
            contains: self.contains.iter().chain(&other.contains).copied().collect(),
            unique: self.unique.or(other.unique),
        }
    }

    /// How many leading elements have requirements of their own.
    pub fn lead(&self) -> usize {
        self.rules.iter().map(|rule| rule.lead.len()).max().unwrap_or(0)
    }

    /// The requirements on the element with this index.
    pub fn element(&self, index: usize) -> Vec<SubSchema> {
        self.rules
            .iter()
            .filter_map(|rule| rule.lead.get(index).copied().unwrap_or(rule.rest))
            .collect()
    }
}

impl Objects {
    fn and(&self, other: &Self) -> Self {
        let mut required = self.required.clone();
        required
            .extend(other.required.iter().filter(|name| !self.required.contains(name)).cloned());
        Self {
            rules: self.rules.iter().chain(&other.rules).cloned().collect(),
            required,
            names: self.names.iter().chain(&other.names).cloned().collect(),
            least: self.least.max(other.least),
            most: least_of(self.most, other.most),
        }
    }

    /// The names of all described or required members, in the order of the schema; those only required come last.
    pub fn known(&self) -> Vec<&str> {
        let mut seen = hashbrown::HashSet::new();
        let described = self.rules.iter().flat_map(|rule| &rule.members).map(|(name, _)| name);
        let all = described.chain(&self.required).map(String::as_str);
        all.filter(|name| seen.insert(*name)).collect()
    }

    /// Whether no other members are allowed. A schema that lists `properties` is taken to allow no others, as in
    /// llama.cpp: taken literally it would allow any, and small models would never stop adding them. It is taken
    /// literally if it says something about other members.
    pub fn is_closed(&self) -> bool {
        let says = |rule: &ObjectRule| rule.rest.is_some() || !rule.patterns.is_empty();
        self.rules.iter().any(|rule| rule.lists)
            && !self.rules.iter().any(says)
            && self.least <= self.known().len()
    }

    /// The requirements on the members with these names.
    pub fn members(&self, names: &[String]) -> Vec<Vec<SubSchema>> {
        let mut parts = vec![Vec::new(); names.len()];
        for rule in &self.rules {
            let mut matchers: Vec<Matcher> =
                rule.patterns.iter().map(|(_, ast, _)| Matcher::new(ast)).collect();
            let by_name: hashbrown::HashMap<&String, Option<SubSchema>> =
                rule.members.iter().map(|(name, part)| (name, *part)).collect();
            for (name, parts) in names.iter().zip(&mut parts) {
                let mut told = false;
                if let Some(part) = by_name.get(name) {
                    told = true;
                    parts.extend(*part);
                }
                for (matcher, (_, _, part)) in matchers.iter_mut().zip(&rule.patterns) {
                    if matcher.is_match(name) {
                        told = true;
                        parts.extend(*part);
                    }
                }
                if !told {
                    parts.extend(rule.rest);
                }
            }
        }
        for sets in &self.names {
            let mut tests: Vec<_> = sets.iter().map(|set| (set, set.test())).collect();
            for (name, parts) in names.iter().zip(&mut parts) {
                let listed = |set: &Texts| set.only.as_ref().is_none_or(|all| all.contains(name));
                if !tests.iter_mut().any(|(set, test)| listed(set) && test(name)) {
                    parts.push(SubSchema::Never);
                }
            }
        }
        parts
    }
}

fn least_of(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
