//! Patterns by their segments: one walk down a path finds the pattern that covers it best.
//!
//! How a path is spelled is not judged here.

use std::cmp::Ordering;

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

    /// Adds a pattern, given by its segments.
    pub(super) fn insert<'a>(
        &mut self,
        segments: impl Iterator<Item = &'a [u8]>,
        exact: bool,
        group: usize,
    ) {
        let mut at = 0;
        for segment in segments {
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

    /// What covers a path: its own exact pattern, else the longest prefix.
    pub(super) fn walk<'a>(
        &self,
        segments: impl Iterator<Item = &'a [u8]>,
        case: Case,
    ) -> Option<Hit> {
        let mut node = &self.nodes[0];
        let mut prefix = node.prefix;
        for segment in segments {
            let Some(child) = node.child(segment, case) else {
                return prefix.map(Hit::below);
            };
            node = &self.nodes[child];
            prefix = node.prefix.or(prefix);
        }
        node.exact.map(Hit::at).or(prefix.map(Hit::below))
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
        self.children
            .binary_search_by(|(own, _)| match case {
                Case::Exact => (**own).cmp(segment),
                Case::Folded => compare_folded(own, segment),
            })
            .ok()
            .map(|found| self.children[found].1)
    }
}

fn compare_folded(lower: &[u8], segment: &[u8]) -> Ordering {
    lower
        .iter()
        .copied()
        .cmp(segment.iter().map(u8::to_ascii_lowercase))
}
