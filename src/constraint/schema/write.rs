//! Writes a plan as an llguidance grammar: lexemes, and rules over them.
//!
//! JSON is written as most programs write it, on one line, `{"a": 1, "b": [2, 3]}`, so that everything but the
//! values is known in advance.

use super::plan::{Element, Form, GrammarPlan, ListForm, Node, ObjectForm};
use super::regex::{either, literal};
use hashbrown::HashMap;
use llguidance::api::GrammarInit;
use llguidance::derivre::RegexAst;
use llguidance::earley::lexerspec::{LexemeClass, LexerSpec};
use llguidance::earley::{Grammar, SymIdx, SymbolProps};

/// Most symbols: llguidance counts them in 16 bits.
const SYMBOLS_MAX: usize = 60_000;
/// Most that the lexemes may cost to build, in llguidance's units: about 20 ms.
const LEXER_FUEL: u64 = 1_000_000;
/// Copies written in a row; larger counts are made of copies of copies.
const COPIES: usize = 8;

/// A piece of a fixed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Plain text.
    Text(String),
    /// A control token.
    Token(u32),
}

/// Writes a grammar.
pub struct Writer {
    grammar: Grammar,
    lexer: LexerSpec,
    class: LexemeClass,
    start: SymIdx,
    literals: HashMap<String, SymIdx>,
    nodes: HashMap<Node, SymIdx>,
    /// Nodes whose rules are not written yet.
    waiting: Vec<Node>,
    exact: HashMap<(usize, usize), SymIdx>,
    at_most: HashMap<(usize, usize), SymIdx>,
}

type Written<T = SymIdx> = Result<T, String>;

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Writer {
    /// An empty grammar.
    pub fn new() -> Written<Self> {
        let mut lexer = LexerSpec::new().map_err(told)?;
        let class = lexer.setup_lexeme_class(RegexAst::NoMatch).map_err(told)?;
        let mut grammar = Grammar::new(None);
        let props = SymbolProps { grammar_id: class, is_start: true, ..SymbolProps::default() };
        let start = grammar.fresh_symbol_ext("start", props);
        Ok(Self {
            grammar,
            lexer,
            class,
            start,
            literals: HashMap::new(),
            nodes: HashMap::new(),
            waiting: Vec::new(),
            exact: HashMap::new(),
            at_most: HashMap::new(),
        })
    }

    /// Finishes the grammar; an answer is one of `options`.
    pub fn finish(mut self, options: Vec<Vec<SymIdx>>, plan: &GrammarPlan) -> Written<GrammarInit> {
        while let Some(node) = self.waiting.pop() {
            self.define(node, plan)?;
        }
        for option in options {
            self.grammar.add_rule(self.start, option).map_err(told)?;
        }
        Ok(GrammarInit::Internal(self.grammar, self.lexer))
    }

    /// The symbol for a node's value.
    pub fn node(&mut self, node: Node) -> Written {
        if let Some(symbol) = self.nodes.get(&node) {
            return Ok(*symbol);
        }
        let symbol = self.symbol("value")?;
        self.nodes.insert(node, symbol);
        self.waiting.push(node);
        Ok(symbol)
    }

    /// The symbols for a fixed text.
    pub fn pieces(&mut self, pieces: &[Piece]) -> Written<Vec<SymIdx>> {
        let mut symbols = Vec::new();
        for piece in pieces {
            symbols.push(match piece {
                Piece::Text(text) => self.literal(text)?,
                Piece::Token(id) => {
                    let name = format!("<[{id}]>");
                    let lexeme =
                        self.lexer.add_special_token(name, vec![*id..=*id]).map_err(told)?;
                    let symbol = self.symbol("token")?;
                    self.grammar.make_terminal(symbol, lexeme, &self.lexer).map_err(told)?;
                    symbol
                }
            });
        }
        Ok(symbols)
    }

    /// A symbol for one of several sequences.
    pub fn rule(&mut self, options: Vec<Vec<SymIdx>>) -> Written {
        if let [option] = options.as_slice()
            && let [one] = option.as_slice()
        {
            return Ok(*one);
        }
        let symbol = self.symbol("rule")?;
        for option in options {
            self.grammar.add_rule(symbol, option).map_err(told)?;
        }
        Ok(symbol)
    }

    /// A symbol any number of times.
    pub fn star(&mut self, symbol: SymIdx) -> Written {
        let star = self.symbol("star")?;
        self.grammar.add_rule(star, Vec::new()).map_err(told)?;
        self.grammar.add_rule(star, vec![star, symbol]).map_err(told)?;
        Ok(star)
    }

    fn symbol(&mut self, name: &str) -> Written {
        if self.grammar.num_symbols() >= SYMBOLS_MAX {
            return Err("it is too large".to_owned());
        }
        let props = SymbolProps { grammar_id: self.class, ..SymbolProps::default() };
        Ok(self.grammar.fresh_symbol_ext(name, props))
    }

    fn literal(&mut self, text: &str) -> Written {
        if let Some(symbol) = self.literals.get(text) {
            return Ok(*symbol);
        }
        let symbol = self.lexeme(literal(text))?;
        self.literals.insert(text.to_owned(), symbol);
        Ok(symbol)
    }

    fn lexeme(&mut self, ast: RegexAst) -> Written {
        let added = self.lexer.add_greedy_lexeme(String::new(), ast, false, None, usize::MAX);
        let lexeme = added.map_err(told)?;
        if self.lexer.cost() > LEXER_FUEL {
            return Err("it is too large".to_owned());
        }
        let symbol = self.symbol("lexeme")?;
        self.grammar.make_terminal(symbol, lexeme, &self.lexer).map_err(told)?;
        Ok(symbol)
    }

    /// Writes the rules of a node.
    fn define(&mut self, node: Node, plan: &GrammarPlan) -> Written<()> {
        let (mut scalars, mut options) = (Vec::new(), Vec::new());
        for form in plan.forms(node) {
            match form {
                Form::Scalar(ast) => scalars.push(ast.clone()),
                Form::List(list) => options.extend(self.list(list, plan)?),
                Form::Object(object) => options.extend(self.object(object, plan)?),
            }
        }
        if !scalars.is_empty() {
            options.push(self.lexeme(either(scalars))?);
        }
        for option in options {
            self.grammar.add_rule(self.nodes[&node], vec![option]).map_err(told)?;
        }
        Ok(())
    }

    /// An array; `None` if none is possible.
    fn list(&mut self, list: &ListForm, plan: &GrammarPlan) -> Written<Option<SymIdx>> {
        let inner = match list.matching {
            None => self.elements(list, plan)?,
            Some(matching) => self.counted(list, matching, plan)?,
        };
        let Some(inner) = inner else { return Ok(None) };
        let option = vec![self.literal("[")?, inner, self.literal("]")?];
        self.rule(vec![option]).map(Some)
    }

    /// The elements of an array from the first to the last.
    fn elements(&mut self, list: &ListForm, plan: &GrammarPlan) -> Written<Option<SymIdx>> {
        let lead = list.lead.iter().take_while(|element| plan.is_possible(element.any)).count();
        let ends = lead < list.lead.len() || !plan.is_possible(list.rest.any);
        let most = list.most.unwrap_or(usize::MAX).min(if ends { lead } else { usize::MAX });
        if most < list.least {
            return Ok(None);
        }
        let lead = lead.min(most);
        // From the last element backwards: what may follow the elements before it.
        let left = most - lead;
        let least = list.least.saturating_sub(lead);
        let mut after = if left == 0 {
            None
        } else {
            let item = self.node(list.rest.any)?;
            let left = (most < usize::MAX).then_some(left);
            Some(self.separated(item, lead > 0, least, left)?)
        };
        for (index, element) in list.lead[..lead].iter().enumerate().rev() {
            let mut with = if index > 0 { vec![self.literal(", ")?] } else { Vec::new() };
            with.push(self.node(element.any)?);
            with.extend(after);
            let mut options = vec![with];
            if list.least <= index {
                options.push(Vec::new());
            }
            after = Some(self.rule(options)?);
        }
        match after {
            Some(after) => Ok(Some(after)),
            None => self.rule(vec![Vec::new()]).map(Some),
        }
    }

    /// From `least` to `most` items separated by commas; `more` puts a comma before the first too.
    fn separated(
        &mut self,
        item: SymIdx,
        more: bool,
        least: usize,
        most: Option<usize>,
    ) -> Written {
        let comma = self.literal(", ")?;
        let next = self.rule(vec![vec![comma, item]])?;
        if more {
            return self.repeat(next, least, most);
        }
        let rest = self.repeat(next, least.saturating_sub(1), most.map(|n| n.saturating_sub(1)))?;
        let mut options = vec![vec![item, rest]];
        if least == 0 {
            options.push(Vec::new());
        }
        self.rule(options)
    }

    /// An array with counted elements: one rule for each number of elements and of matching ones.
    fn counted(
        &mut self,
        list: &ListForm,
        (least, most): (usize, Option<usize>),
        plan: &GrammarPlan,
    ) -> Written<Option<SymIdx>> {
        // Counts saturate here: one more makes no difference.
        let long = list.lead.len().max(list.least).max(list.most.unwrap_or(0)).max(1);
        let many = least.max(most.map_or(0, |most| most.saturating_add(1)));
        if long.saturating_add(1).saturating_mul(many.saturating_add(1)) > SYMBOLS_MAX / 8 {
            return Err("`contains` with bounds this large is not supported".to_owned());
        }
        let at = |count: usize, matching: usize| count.min(long) * (many + 1) + matching.min(many);
        let full = |count: usize| list.most.is_some_and(|most| count >= most);
        let ends = |count: usize, matching: usize| {
            count >= list.least && matching >= least && most.is_none_or(|most| matching <= most)
        };
        // The nodes for one more element, each with the number of matches after it. If the number has a maximum, an
        // element that is not counted must not match.
        let next = |count: usize, matching: usize| {
            let Element { any, matching: with, other } =
                *list.lead.get(count).unwrap_or(&list.rest);
            let options = [(Some(other.unwrap_or(any)), matching), (with, matching + 1)];
            let possible = |node: &Node| !full(count) && plan.is_possible(*node);
            options.map(|(node, matching)| (node.filter(possible), matching))
        };
        // The states from which the array can still end, up to a fixed point.
        let mut can_end = vec![false; (long + 1) * (many + 1)];
        loop {
            let mut changed = false;
            for count in (0..=long).rev() {
                for matching in (0..=many).rev() {
                    let goes_on = || {
                        let mut options = next(count, matching).into_iter();
                        options.any(|(node, matching)| {
                            node.is_some() && can_end[at(count + 1, matching)]
                        })
                    };
                    if !can_end[at(count, matching)] && (ends(count, matching) || goes_on()) {
                        can_end[at(count, matching)] = true;
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        if !can_end[at(0, 0)] {
            return Ok(None);
        }
        let mut rules = Vec::new();
        for _ in &can_end {
            rules.push(self.symbol("elements")?);
        }
        let comma = self.literal(", ")?;
        for (count, matching) in (0..=long).flat_map(|n| (0..=many).map(move |m| (n, m))) {
            if ends(count, matching) {
                self.grammar.add_rule(rules[at(count, matching)], Vec::new()).map_err(told)?;
            }
            for (node, after) in next(count, matching) {
                let after = at(count + 1, after);
                if let Some(node) = node.filter(|_| can_end[after]) {
                    let mut sequence = if count > 0 { vec![comma] } else { Vec::new() };
                    sequence.extend([self.node(node)?, rules[after]]);
                    self.grammar.add_rule(rules[at(count, matching)], sequence).map_err(told)?;
                }
            }
        }
        Ok(Some(rules[at(0, 0)]))
    }

    /// An object; `None` if none is possible.
    fn object(&mut self, object: &ObjectForm, plan: &GrammarPlan) -> Written<Option<SymIdx>> {
        let members: Vec<_> = object.members.iter().filter(|m| plan.is_possible(m.node)).collect();
        if object.members.iter().any(|m| m.required && !plan.is_possible(m.node)) {
            return Ok(None);
        }
        let colon = self.literal(": ")?;
        let mut others = Vec::new();
        for (name, node) in object.others.iter().filter(|(_, node)| plan.is_possible(*node)) {
            others.push(vec![self.lexeme(name.clone())?, colon, self.node(*node)?]);
        }
        let others = if others.is_empty() { None } else { Some(self.rule(others)?) };
        let most = object.most.filter(|most| others.is_some() || *most < members.len());
        // The member count saturates here; below it, there is a rule for each count.
        let cap = most.map_or(object.least.max(1), |most| most + 1);
        if members.len().saturating_mul(cap.min(members.len())) > SYMBOLS_MAX / 4 {
            let text =
                "`minProperties` or `maxProperties` with this many properties is not supported";
            return Err(text.to_owned());
        }
        let comma = self.literal(", ")?;
        // What may follow all named members, by how many are present. `None`: nothing is allowed.
        let mut after: Vec<Option<SymIdx>> = Vec::new();
        for count in 0..=cap.min(members.len()) {
            let least = object.least.saturating_sub(count);
            let left = most.map(|most| most.checked_sub(count));
            after.push(match (others, left) {
                (_, Some(None)) => None,
                (None, _) | (_, Some(Some(0))) if least > 0 => None,
                (None, _) | (_, Some(Some(0))) => Some(self.rule(vec![Vec::new()])?),
                (Some(item), left) => {
                    Some(self.separated(item, count > 0, least, left.flatten())?)
                }
            });
        }
        // From the last member backwards.
        for (index, member) in members.iter().enumerate().rev() {
            let name = self.literal(&super::json::quoted(&member.name))?;
            let value = self.node(member.node)?;
            let written = self.rule(vec![vec![name, colon, value]])?;
            let mut before = Vec::new();
            for count in 0..=cap.min(index) {
                let mut options = Vec::new();
                if let Some(rest) = after[(count + 1).min(cap)] {
                    let mut with = if count > 0 { vec![comma] } else { Vec::new() };
                    with.extend([written, rest]);
                    options.push(with);
                }
                if !member.required {
                    options.extend(after[count].map(|rest| vec![rest]));
                }
                before.push(if options.is_empty() { None } else { Some(self.rule(options)?) });
            }
            after = before;
        }
        let Some(inner) = after[0] else { return Ok(None) };
        let option = vec![self.literal("{")?, inner, self.literal("}")?];
        self.rule(vec![option]).map(Some)
    }

    /// A symbol from `least` to `most` times.
    fn repeat(&mut self, symbol: SymIdx, least: usize, most: Option<usize>) -> Written {
        let exact = self.exactly(symbol, least)?;
        let rest = match most {
            None => self.star(symbol)?,
            Some(most) => self.up_to(symbol, most.saturating_sub(least))?,
        };
        self.rule(vec![vec![exact, rest]])
    }

    fn exactly(&mut self, symbol: SymIdx, count: usize) -> Written {
        if let Some(known) = self.exact.get(&(symbol.as_usize(), count)) {
            return Ok(*known);
        }
        let mut sequence = Vec::new();
        if count > 2 * COPIES {
            let copies = self.exactly(symbol, COPIES)?;
            sequence.push(self.exactly(copies, count / COPIES)?);
        }
        let single = if count > 2 * COPIES { count % COPIES } else { count };
        sequence.extend(std::iter::repeat_n(symbol, single));
        let rule = self.rule(vec![sequence])?;
        self.exact.insert((symbol.as_usize(), count), rule);
        Ok(rule)
    }

    fn up_to(&mut self, symbol: SymIdx, count: usize) -> Written {
        if let Some(known) = self.at_most.get(&(symbol.as_usize(), count)) {
            return Ok(*known);
        }
        let rule = if count <= 2 * COPIES {
            let mut rule = self.rule(vec![Vec::new()])?;
            for _ in 0..count {
                rule = self.rule(vec![Vec::new(), vec![symbol, rule]])?;
            }
            rule
        } else {
            // Either all groups and the remainder or less, or fewer groups and less than one group.
            let group = self.exactly(symbol, COPIES)?;
            let all = self.exactly(group, count / COPIES)?;
            let last = self.up_to(symbol, count % COPIES)?;
            let fewer = self.up_to(group, count / COPIES - 1)?;
            let short = self.up_to(symbol, COPIES - 1)?;
            self.rule(vec![vec![all, last], vec![fewer, short]])?
        };
        self.at_most.insert((symbol.as_usize(), count), rule);
        Ok(rule)
    }
}
