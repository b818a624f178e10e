//! Patterns by their segments: one walk down a path finds the pattern that covers it best.
//!
//! How a path is spelled is not judged here.

use std::cmp::Ordering;

/// So many segments are compared one after the other.
const FEW: usize = 8;

/// How segments are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// Byte by byte.
    Exact,
    /// Without regard to ASCII case; the trie's own segments are lower case.
    Folded,
}

/// What covers a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The path group in this place.
    Group(usize),
    /// Two groups whose patterns differ in nothing but case.
    Torn,
}

/// A choice, and how it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// What covers the path.
    pub(super) choice: Choice,
    /// An exact pattern covers it.
    pub(super) exact: bool,
}

/// The patterns of one host.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
}

/// One path; the root is the first.
#[derive(Debug, Default)]
struct Node {
    /// The next segment and its node, sorted.
    children: Vec<(Box<[u8]>, usize)>,
    /// Where any segment leads that is not empty: a template's placeholder.
    any: Option<usize>,
    exact: Option<Choice>,
    prefix: Option<Choice>,
}

impl Trie {
    /// A trie that covers nothing.
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }

    /// Adds a pattern, given by its segments; `is_placeholder` tells those that stand for any.
    pub(super) fn insert<'a>(
        &mut self,
        segments: impl Iterator<Item = &'a [u8]>,
        is_placeholder: impl Fn(&[u8]) -> bool,
        exact: bool,
        group: usize,
    ) {
        let mut at = 0;
        for segment in segments {
            if is_placeholder(segment) {
                let new = self.nodes.len();
                at = *self.nodes[at].any.get_or_insert(new);
                if at == new {
                    self.nodes.push(Node::default());
                }
                continue;
            }
            let search = self.nodes[at]
                .children
                .binary_search_by(|(own, _)| (**own).cmp(segment));
            at = match search {
                Ok(found) => self.nodes[at].children[found].1,
                Err(place) => {
                    let new = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[at].children.insert(place, (segment.into(), new));
                    new
                }
            };
        }
        let node = &mut self.nodes[at];
        let choice = if exact {
            &mut node.exact
        } else {
            &mut node.prefix
        };
        *choice = match choice {
            Some(other) if *other != Choice::Group(group) => Some(Choice::Torn),
            _ => Some(Choice::Group(group)),
        };
    }

    /// What covers a path: its own exact pattern, one with placeholders, else the longest prefix.
    pub(super) fn walk<'a>(
        &self,
        segments: impl Iterator<Item = &'a [u8]> + Clone,
        case: Case,
    ) -> Option<Hit> {
        self.walk_from(0, None, segments, case)
    }

    /// Walks on from the node `at`, above which the longest prefix was `prefix`.
    fn walk_from<'a>(
        &self,
        mut at: usize,
        mut prefix: Option<Choice>,
        mut segments: impl Iterator<Item = &'a [u8]> + Clone,
        case: Case,
    ) -> Option<Hit> {
        loop {
            let node = &self.nodes[at];
            prefix = node.prefix.or(prefix);
            let rest = node.any.map(|_| segments.clone());
            let Some(segment) = segments.next() else {
                return node.exact.map(Hit::at).or(prefix.map(Hit::below));
            };
            let child = node.child(segment, case);
            let (Some(any), Some(rest)) = (node.any.filter(|_| !segment.is_empty()), rest) else {
                match child {
                    Some(child) => at = child,
                    None => return prefix.map(Hit::below),
                }
                continue;
            };
            let mut rest = rest;
            rest.next();
            let literal = child.and_then(|child| self.walk_from(child, prefix, segments, case));
            if literal.is_some_and(|hit| hit.exact) {
                return literal;
            }
            let filled = self.walk_from(any, prefix, rest, case);
            return filled
                .filter(|hit| hit.exact)
                .or(literal)
                .or(prefix.map(Hit::below));
        }
    }
}

impl Hit {
    fn at(choice: Choice) -> Self {
        Self {
            choice,
            exact: true,
        }
    }

    fn below(choice: Choice) -> Self {
        Self {
            choice,
            exact: false,
        }
    }
}

impl Node {
    fn child(&self, segment: &[u8], case: Case) -> Option<usize> {
        let found = match case {
            // Where there are few, most of them are told from it by their lengths.
            Case::Exact if self.children.len() <= FEW => {
                self.children.iter().find(|(own, _)| **own == *segment)?
            }
            Case::Exact => self.search(|own| own.cmp(segment))?,
            Case::Folded => self.search(|own| compare_folded(own, segment))?,
        };
        Some(found.1)
    }

    fn search(&self, compare: impl Fn(&[u8]) -> Ordering) -> Option<&(Box<[u8]>, usize)> {
        let found = self.children.binary_search_by(|(own, _)| compare(own));
        self.children.get(found.ok()?)
    }
}

fn compare_folded(lower: &[u8], segment: &[u8]) -> Ordering {
    lower
        .iter()
        .copied()
        .cmp(segment.iter().map(u8::to_ascii_lowercase))
}
