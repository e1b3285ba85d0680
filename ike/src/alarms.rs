//! What needs an operator: a sentence for each subject while it lasts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use baton_dataplane::control::Listeners;
use tracing::{info, warn};

use crate::control::{Kind, Occurred};

/// The alarms, shared by all who raise them.
#[derive(Clone, Debug)]
pub struct Alarms {
    raised: Arc<Mutex<BTreeMap<&'static str, String>>>,
    listeners: Arc<Listeners<Kind>>,
}

impl Alarms {
    /// None yet; these are told of each.
    pub fn new(listeners: Arc<Listeners<Kind>>) -> Self {
        Self { raised: Arc::default(), listeners }
    }

    /// Raises the alarm of a subject, or ends it. What stays as it was is told to nobody again.
    pub fn set(&self, subject: &'static str, alarm: Option<String>) {
        let mut raised = self.raised();
        let is_raised = alarm.is_some();
        let told = match alarm {
            Some(alarm) if raised.get(subject) == Some(&alarm) => None,
            Some(alarm) => {
                raised.insert(subject, alarm.clone());
                Some(alarm)
            }
            None => raised.remove(subject),
        };
        drop(raised);
        if let Some(alarm) = told {
            self.tell(is_raised, alarm);
        }
    }

    fn tell(&self, raised: bool, alarm: String) {
        if raised {
            warn!(alarm, "alarm");
        } else {
            info!(alarm, "alarm is over");
        }
        self.listeners.tell(Occurred::Alarm { raised, alarm });
    }

    /// All sentences.
    pub fn sentences(&self) -> Vec<String> {
        self.raised().values().cloned().collect()
    }

    fn raised(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use baton_dataplane::control::Heard;

    use super::*;

    #[test]
    fn each_alarm_is_told_once_and_so_is_its_end() {
        let listeners = Arc::new(Listeners::default());
        let listening = listeners.listen(&[]).expect("a seat");
        let alarms = Alarms::new(Arc::clone(&listeners));
        for alarm in [Some("water"), Some("water"), Some("fire"), None, None] {
            alarms.set("house", alarm.map(str::to_owned));
        }
        assert!(alarms.sentences().is_empty());
        let heard = || match listening.next(Duration::ZERO) {
            Heard::Line(line) => Some(line.contains("\"raised\":true")),
            _ => None,
        };
        assert_eq!([heard(), heard(), heard(), heard()], [Some(true), Some(true), Some(false), None]);
    }
}
