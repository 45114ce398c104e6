//! Which process of each service answered when.

use std::sync::Mutex;

use crate::actor::Actor;
use crate::mode::Mode;
use crate::now;

/// A process that answers again, this long after its successor first answered, was not replaced.
const BACK: f64 = 1.0;

/// The answers so far, for each service.
pub struct Truth(Mutex<Vec<Vec<Generation>>>);

/// A process that has answered for its service.
#[derive(Debug, Clone)]
pub struct Generation {
    pub pid: i32,
    /// When it was first seen to answer.
    pub first: f64,
    /// When another was first seen to answer instead.
    pub replaced: Option<f64>,
}

impl Truth {
    pub fn new(services: usize) -> Self {
        Self(Mutex::new(vec![Vec::new(); services]))
    }

    /// Asks every service which process answers.
    pub fn ask(&self, actors: &[Actor<'_>]) -> Vec<Option<i32>> {
        let mut answers: Vec<Option<i32>> = actors.iter().map(Actor::answers).collect();
        let now = now();
        let mut known = self.0.lock().unwrap();
        for ((generations, answer), actor) in known.iter_mut().zip(&mut answers).zip(actors) {
            let newest = generations.last().map(|last| last.pid);
            *answer =
                answer.filter(|pid| !newest.is_some_and(|new| actor.is_left_behind(*pid, new)));
            let Some(pid) = *answer else { continue };
            if let Some(place) = generations.iter().position(|known| known.pid == pid) {
                let lasted = generations.last().is_none_or(|last| now < last.first + BACK);
                // Another thread may have asked later and written first; and two processes may share a socket.
                if place + 1 < generations.len() && !lasted && actor.mode != Mode::Transfer {
                    // The reloads since then have failed, each after it had answered for a moment.
                    generations.truncate(place + 1);
                    generations[place].replaced = None;
                }
                continue;
            }
            if let Some(last) = generations.last_mut() {
                last.replaced = Some(now);
            }
            generations.push(Generation { pid, first: now, replaced: None });
        }
        answers
    }

    /// The generations of a service, oldest first.
    pub fn generations(&self, service: usize) -> Vec<Generation> {
        self.0.lock().unwrap()[service].clone()
    }
}
