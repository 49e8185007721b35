//! Requests of about the last minute, in fixed memory, to learn a limit from where none is known. Pure.

/// So many seconds are kept apart.
const SECONDS: usize = 60;

/// What was counted within the last minute, by the second.
#[derive(Debug)]
pub(super) struct Minute {
    /// The second, since the epoch, that was counted last.
    second: i64,
    counts: [u32; SECONDS],
}

impl Default for Minute {
    fn default() -> Self {
        Minute { second: i64::MIN, counts: [0; SECONDS] }
    }
}

// === impl Minute ===

impl Minute {
    /// One more at this moment, in milliseconds. What a clock that is set back counts, counts as the last second's.
    pub(super) fn count(&mut self, now: i64) {
        let second = now.div_euclid(1000);
        if second > self.second {
            // Those between were without requests.
            let quiet = second.saturating_sub(self.second).min(SECONDS as i64);
            for step in 0..quiet {
                if let Some(count) = self.counts.get_mut(place(second - step)) {
                    *count = 0;
                }
            }
            self.second = second;
        }
        if let Some(count) = self.counts.get_mut(place(self.second)) {
            *count = count.saturating_add(1);
        }
    }

    /// How many there were within the last minute.
    pub(super) fn total(&self, now: i64) -> u64 {
        self.seconds(now).iter().map(|(_, count)| count).sum()
    }

    /// When they were, by the second, the oldest first; each at the second's end, or now.
    pub(super) fn seconds(&self, now: i64) -> Vec<(i64, u64)> {
        let second = now.div_euclid(1000);
        let since = second.saturating_sub(SECONDS as i64);
        let counted = (0..SECONDS as i64).rev().map(|back| self.second.saturating_sub(back));
        let within = counted.filter(|counted| *counted > since && *counted <= second.max(self.second));
        within
            .filter_map(|counted| Some((counted, *self.counts.get(place(counted))?)))
            .filter(|(_, count)| *count > 0)
            .map(|(counted, count)| {
                (counted.saturating_mul(1000).saturating_add(999).min(now), u64::from(count))
            })
            .collect()
    }
}

fn place(second: i64) -> usize {
    usize::try_from(second.rem_euclid(SECONDS as i64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_minute_counts_whatever_gaps_there_are() {
        let mut minute = Minute::default();
        assert_eq!(minute.total(0), 0);
        for second in 0..90 {
            minute.count(second * 1000);
            minute.count(second * 1000 + 999);
        }
        assert_eq!(minute.total(89_999), 120);
        assert_eq!(minute.total(119_000), 2 * 30);
        minute.count(1_000_000);
        assert_eq!(minute.total(1_000_500), 1);
        assert_eq!(minute.total(1_060_000), 0);
        // The clock is set back: nothing is lost or counted twice.
        minute.count(500_000);
        assert_eq!(minute.total(500_000), 2);
    }
}
