//! What a replica knows of the store's events, and what follows from each answer it gets.
//!
//! A replica asks for the events behind a place, over and over; an answer without any is the
//! store's heartbeat. It may believe what it remembers of the store as long as the last answer that
//! told it everything was asked for lately, and nothing was lost between two answers.

use std::time::Duration;

use super::Change;

/// What the store answered to the question for the events behind a place.
#[derive(Clone, Debug)]
pub struct Answer<P> {
    /// When it was asked, by a clock that never goes back: what happened later may be missing.
    pub asked: Duration,
    /// The run of the server that answered. Another one may have lost what this replica has read of
    /// the one before.
    pub run: u64,
    /// The events behind the place are no longer all there, or the place itself is not.
    pub gap: bool,
    /// What happened, oldest first.
    pub changes: Vec<Change>,
    /// Where the next question begins.
    pub last: P,
    /// Whether these were all there were when it was asked.
    pub complete: bool,
}

/// What has to be forgotten of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forget {
    /// What these changes concern.
    Concerned(Vec<Change>),
    /// All of it: nobody can tell what has become wrong.
    Everything,
}

/// What follows from an answer, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consequences {
    /// First of all.
    pub forget: Forget,
    /// Since when the store vouches for what is remembered; `None`: no later than before.
    pub heard: Option<Duration>,
    /// Whether what is held open on a credential has to be judged again.
    pub judge_again: bool,
}

/// How far a replica has followed the events.
#[derive(Clone, Debug)]
pub struct Following<P> {
    /// The run of the server, and the place. `None` before the first answer.
    reached: Option<(u64, P)>,
}

impl<P: Copy> Following<P> {
    /// Has heard nothing yet.
    pub fn new() -> Self {
        Self { reached: None }
    }

    /// The place to ask from; `None`: it is to be asked where the events end.
    pub fn place(&self) -> Option<P> {
        self.reached.map(|(_, place)| place)
    }

    /// Takes an answer to the question for what is behind [`Following::place`].
    pub fn hear(&mut self, answer: Answer<P>) -> Consequences {
        let lost = match self.reached {
            None => true,
            Some((run, _)) => answer.gap || run != answer.run,
        };
        self.reached = Some((answer.run, answer.last));
        let forget = if lost || answer.changes.contains(&Change::Unknown) {
            Forget::Everything
        } else {
            Forget::Concerned(answer.changes)
        };
        Consequences {
            judge_again: forget != Forget::Concerned(Vec::new()),
            forget,
            heard: answer.complete.then_some(answer.asked),
        }
    }
}

impl<P: Copy> Default for Following<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether what is remembered of the store may be believed `now`, where the last answer that told
/// everything was asked for when it was `heard`.
pub fn vouches(heard: Option<Duration>, now: Duration, max_staleness: Duration) -> bool {
    heard.is_some_and(|heard| now.saturating_sub(heard) <= max_staleness)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(changes: Vec<Change>) -> Answer<u32> {
        Answer {
            asked: Duration::from_secs(5),
            run: 1,
            gap: false,
            changes,
            last: 7,
            complete: true,
        }
    }

    fn ended(id: &str) -> Change {
        Change::Family { id: id.into() }
    }

    fn following() -> Following<u32> {
        let mut following = Following::new();
        assert_eq!(following.place(), None);
        let first = following.hear(answer(Vec::new()));
        assert_eq!(first.forget, Forget::Everything, "nobody told of it before");
        assert_eq!(following.place(), Some(7));
        following
    }

    #[test]
    fn a_heartbeat_forgets_nothing() {
        let heartbeat = following().hear(answer(Vec::new()));
        let expected = Consequences {
            forget: Forget::Concerned(Vec::new()),
            heard: Some(Duration::from_secs(5)),
            judge_again: false,
        };
        assert_eq!(heartbeat, expected);
    }

    #[test]
    fn a_change_forgets_what_it_concerns() {
        let told = following().hear(answer(vec![ended("a"), ended("b")]));
        assert_eq!(told.forget, Forget::Concerned(vec![ended("a"), ended("b")]));
        assert!(told.judge_again);
    }

    #[test]
    fn a_gap_another_run_and_an_unknown_change_forget_everything() {
        let gap = Answer {
            gap: true,
            ..answer(Vec::new())
        };
        let other = Answer {
            run: 2,
            ..answer(vec![ended("a")])
        };
        let unknown = answer(vec![ended("a"), Change::Unknown]);
        for answer in [gap, other, unknown] {
            let told = following().hear(answer);
            assert_eq!((told.forget, told.judge_again), (Forget::Everything, true));
        }
    }

    #[test]
    fn an_answer_that_leaves_events_out_vouches_for_nothing() {
        let mut following = following();
        let part = Answer {
            complete: false,
            ..answer(vec![ended("a")])
        };
        assert_eq!(following.hear(part).heard, None);
    }

    #[test]
    fn what_was_heard_is_believed_for_so_long() {
        let second = Duration::from_secs;
        assert!(!vouches(None, second(0), second(10)));
        assert!(vouches(Some(second(5)), second(15), second(10)));
        assert!(!vouches(Some(second(5)), second(16), second(10)));
        let late = vouches(Some(second(5)), second(3), second(10));
        assert!(late, "an answer that came after the clock was read");
    }
}
