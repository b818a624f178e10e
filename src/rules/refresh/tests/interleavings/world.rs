//! Callers, a store, a clock, and the steps that they may take.

use std::collections::{HashMap, HashSet};

use super::super::naive::{History, Verdict};
use super::super::*;
use super::{NEVER, Scenario};

const GRACE: u64 = 2;
const MOST_CALLERS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Caller {
    /// The generation of the refresh token that it has.
    token: Option<usize>,
    /// The generation that its access token was issued with.
    access_token: Option<usize>,
    request: Request,
    requests_left: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Request {
    None,
    /// It loaded the family in this version.
    Loaded(usize),
    /// It judged that version, and is about to swap it for this one.
    Judged {
        loaded: usize,
        swap: usize,
        answer: Option<usize>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    now: u64,
    steps_back_left: u8,
    losses_left: u8,
    /// The version in the store.
    stored: usize,
    /// The tabs, then the thief; those that do not take part have no token.
    callers: [Caller; MOST_CALLERS],
}

/// What came of judging a request.
#[derive(Clone, Copy)]
enum Judged {
    Swap { swap: usize, answer: Option<usize> },
    Answer(usize),
    Refused,
}

/// A family as it was stored at some time, and how it came to that.
struct Version {
    family: Family,
    history: History,
    /// Its tokens, the first first.
    tokens: Vec<Token>,
}

pub(super) struct World {
    scenario: Scenario,
    /// A token that names the family and shows another proof.
    stranger: Token,
    versions: Vec<Version>,
    by_history: HashMap<History, usize>,
    judged: HashMap<(usize, usize, usize, u64), Judged>,
    presented: HashMap<(usize, usize), Option<usize>>,
    fought: HashSet<(usize, usize, usize)>,
    /// How often each verdict was given.
    pub(super) outcomes: [usize; 4],
}

impl World {
    pub(super) fn new(scenario: Scenario) -> Self {
        let (family, token) = if scenario.imported {
            taken_over(scenario.cap)
        } else {
            let terms = Terms {
                ttl: Duration::from_secs(scenario.cap),
                ..terms()
            };
            begin(grant(), &random(), &terms, at(0))
        };
        let history = History::default();
        Self {
            scenario,
            stranger: Token::first(&family.id, &[1; 16], &[2; 32]),
            by_history: HashMap::from([(history.clone(), 0)]),
            versions: vec![Version {
                family,
                history,
                tokens: vec![token],
            }],
            judged: HashMap::new(),
            presented: HashMap::new(),
            fought: HashSet::new(),
            outcomes: [0; 4],
        }
    }

    pub(super) fn first_state(&self) -> State {
        let nobody = Caller {
            token: None,
            access_token: None,
            request: Request::None,
            requests_left: self.scenario.requests,
        };
        let mut callers = [nobody; MOST_CALLERS];
        for tab in &mut callers[..self.scenario.tabs] {
            tab.token = Some(0);
            tab.access_token = Some(0);
        }
        State {
            now: 0,
            steps_back_left: self.scenario.steps_back,
            losses_left: self.scenario.losses,
            stored: 0,
            callers,
        }
    }

    pub(super) fn steps(&mut self, state: &State) -> Vec<State> {
        let mut steps = Vec::new();
        self.pass_time(state, &mut steps);
        for who in 0..MOST_CALLERS {
            self.steal(state, who, &mut steps);
            self.present_access_token(state, who, &mut steps);
            self.advance(state, who, &mut steps);
        }
        self.fight_to_the_end(state);
        steps
    }

    fn pass_time(&self, state: &State, steps: &mut Vec<State>) {
        let later = state.now + 1;
        if later <= self.scenario.ticks
            && !(self.scenario.prompt && self.someone_late(state, later))
        {
            steps.push(State {
                now: later,
                ..*state
            });
        }
        if state.steps_back_left > 0 && state.now > 0 {
            steps.push(State {
                now: state.now - 1,
                steps_back_left: state.steps_back_left - 1,
                ..*state
            });
        }
    }

    /// Whether a tab would be out of grace with the token that it has, or would be as soon as
    /// another's rotation is swapped in.
    fn someone_late(&self, state: &State, now: u64) -> bool {
        let is_over = |rotation: &(u64, usize)| now - rotation.0 >= GRACE;
        let rotations = &self.versions[state.stored].history.rotations;
        let tabs = &state.callers[..self.scenario.tabs];
        tabs.iter().any(|tab| {
            let own = tab.token.and_then(|token| rotations.get(token));
            let next = match tab.request {
                Request::Judged { swap, .. } => self.versions[swap].history.rotations.last(),
                Request::None | Request::Loaded(_) => None,
            };
            own.is_some_and(is_over) || next.is_some_and(is_over)
        })
    }

    fn steal(&self, state: &State, who: usize, steps: &mut Vec<State>) {
        let is_thief = self.scenario.thief && who == self.scenario.tabs;
        if !is_thief || state.callers[who].token.is_some() {
            return;
        }
        for victim in 0..self.scenario.tabs {
            let mut next = *state;
            next.callers[who].token = state.callers[victim].token;
            steps.push(next);
        }
    }

    fn present_access_token(&mut self, state: &State, who: usize, steps: &mut Vec<State>) {
        let generation = state.callers[who].access_token;
        let presented = generation.and_then(|it| self.after_presenting(state.stored, it));
        steps.extend(presented.map(|stored| State { stored, ..*state }));
    }

    /// The version after an access token of this generation was presented, if that changes it.
    fn after_presenting(&mut self, stored: usize, generation: usize) -> Option<usize> {
        if let Some(known) = self.presented.get(&(stored, generation)) {
            return *known;
        }
        let version = &self.versions[stored];
        let noted = note_presented(&version.family, u64::try_from(generation).unwrap());
        let (mut history, tokens) = (version.history.clone(), version.tokens.clone());
        let after = noted.map(|family| {
            // Of other generations nothing is ever asked again.
            assert_eq!(generation, history.rotations.len());
            history.presented.insert(generation);
            self.keep(family, history, tokens)
        });
        self.presented.insert((stored, generation), after);
        after
    }

    /// The next step of a caller's request, in every way that it may turn out.
    fn advance(&mut self, state: &State, who: usize, steps: &mut Vec<State>) {
        let caller = state.callers[who];
        let Some(token) = caller.token else {
            return;
        };
        let mut next = *state;
        match caller.request {
            Request::None if caller.requests_left == 0 => {}
            Request::None => {
                next.callers[who].requests_left -= 1;
                next.callers[who].request = Request::Loaded(state.stored);
                steps.push(next);
            }
            Request::Loaded(loaded) => match self.judge(loaded, token, who, state.now) {
                Judged::Swap { swap, answer } => {
                    next.callers[who].request = Request::Judged {
                        loaded,
                        swap,
                        answer,
                    };
                    steps.push(next);
                }
                Judged::Answer(answer) => self.answer(next, who, Some(answer), steps),
                Judged::Refused => self.answer(next, who, None, steps),
            },
            Request::Judged { loaded, .. } if loaded != state.stored => {
                next.callers[who].request = Request::Loaded(state.stored);
                steps.push(next);
            }
            Request::Judged { swap, answer, .. } => {
                if next.losses_left > 0 {
                    let mut crashed = next;
                    crashed.losses_left -= 1;
                    crashed.callers[who].request = Request::None;
                    steps.push(crashed);
                }
                self.assert_follows(state.stored, swap);
                next.stored = swap;
                self.answer(next, who, answer, steps);
            }
        }
    }

    /// The answer arrives, or it is lost.
    fn answer(&self, mut next: State, who: usize, answer: Option<usize>, steps: &mut Vec<State>) {
        next.callers[who].request = Request::None;
        if next.losses_left > 0 {
            let mut lost = next;
            lost.losses_left -= 1;
            steps.push(lost);
        }
        if let Some(generation) = answer {
            next.callers[who].token = Some(generation);
            next.callers[who].access_token = Some(generation);
        } else {
            let logged_out = who < self.scenario.tabs && next.now < self.scenario.cap;
            assert!(
                !logged_out || self.scenario.thief,
                "an honest caller is logged out"
            );
            next.callers[who].requests_left = 0;
        }
        steps.push(next);
    }

    /// Judges a token of this generation, and holds what comes of it against the naive rules.
    fn judge(&mut self, loaded: usize, generation: usize, who: usize, now: u64) -> Judged {
        let key = (loaded, generation, who, now);
        if let Some(judged) = self.judged.get(&key) {
            return *judged;
        }
        let version = &self.versions[loaded];
        let mut history = version.history.clone();
        let mut tokens = version.tokens.clone();
        let current = tokens.len() - 1;
        // Whoever rotates, and whenever, brings randomness of its own.
        let salt = Salt(Digest::of(format!("{who} {current} {now}").as_bytes()).0);
        let token = &tokens[generation];
        let (verdict, judged) = match exchange(&version.family, token, salt, &terms(), at(now)) {
            Exchange::Rotated { family, token } => {
                assert!(family.current.matches(&token.digest(terms().pepper)));
                history.rotations.push((now, who));
                tokens.push(token);
                let swap = self.keep(family, history, tokens);
                let answer = Some(current + 1);
                (Verdict::Rotate, Judged::Swap { swap, answer })
            }
            Exchange::Again { token, family } => {
                assert_eq!(token.as_str(), tokens[current].as_str());
                assert!(family.is_none());
                (Verdict::Again, Judged::Answer(current))
            }
            Exchange::Reused { family } => {
                history.revoked = Some(now);
                let swap = self.keep(family, history, tokens);
                (Verdict::Revoke, Judged::Swap { swap, answer: None })
            }
            Exchange::Refused(refused) => {
                assert_ne!(refused, Refused::Unknown);
                (Verdict::Refuse, Judged::Refused)
            }
        };
        // The naive rules know of no clock that steps back.
        if self.scenario.steps_back == 0 {
            let history = &self.versions[loaded].history;
            let expected = history.verdict(generation, now, GRACE, self.scenario.cap);
            assert_eq!(verdict, expected, "{generation} at {now}: {history:?}");
        }
        self.outcomes[verdict as usize] += 1;
        self.judged.insert(key, judged);
        judged
    }

    /// Keeps a version. The record follows from the history, whichever way it was reached.
    fn keep(&mut self, family: Family, history: History, tokens: Vec<Token>) -> usize {
        if let Some(kept) = self.by_history.get(&history) {
            assert!(self.versions[*kept].family == family, "{history:?}");
            return *kept;
        }
        let refused = exchange(&family, &self.stranger, Salt([0; 32]), &terms(), at(0));
        assert!(matches!(refused, Exchange::Refused(Refused::Unknown)));
        let number = self.versions.len();
        self.by_history.insert(history.clone(), number);
        self.versions.push(Version {
            family,
            history,
            tokens,
        });
        number
    }

    /// A swap adds one token or none, whoever made it, and leaves nothing after the end.
    fn assert_follows(&self, before: usize, after: usize) {
        let (before, after) = (&self.versions[before], &self.versions[after]);
        assert!(before.family.revoked.is_none());
        let ends = after.family.revoked.is_some();
        let added = after.family.generation - before.family.generation;
        assert_eq!(added, u64::from(!ends));
        assert_eq!(ends, after.family.rotations.is_empty());
    }

    /// However it came that a tab and a thief have tokens of the family: if from now on each
    /// presents its own past grace, and uses what it gets, the family ends, whoever begins.
    fn fight_to_the_end(&mut self, state: &State) {
        let thief = self.scenario.tabs;
        if !self.scenario.thief || self.scenario.cap != NEVER || self.scenario.steps_back > 0 {
            return;
        }
        for tab in 0..self.scenario.tabs {
            let tokens = (state.callers[tab].token, state.callers[thief].token);
            let (Some(own), Some(stolen)) = tokens else {
                continue;
            };
            if self.fought.insert((state.stored, own, stolen)) {
                let rivals = [(tab, own), (thief, stolen)];
                assert!(self.ends(state.stored, rivals));
                assert!(self.ends(state.stored, [rivals[1], rivals[0]]));
            }
        }
    }

    /// Whether the family ends while these callers take turns with these tokens.
    fn ends(&mut self, mut stored: usize, mut rivals: [(usize, usize); 2]) -> bool {
        let mut now = self.scenario.ticks;
        for turn in 0..4 {
            now += GRACE;
            let (who, token) = &mut rivals[turn % 2];
            match self.judge(stored, *token, *who, now) {
                Judged::Swap { answer: None, .. } | Judged::Refused => return true,
                Judged::Swap {
                    swap,
                    answer: Some(answer),
                } => (stored, *token) = (swap, answer),
                Judged::Answer(answer) => *token = answer,
            }
            stored = self.after_presenting(stored, *token).unwrap_or(stored);
        }
        false
    }
}
