//! Whether a panel is asked at all, who of it, and when those that were admitted are sent: its capacity is looked at as a
//! whole. Pure.

/// What happens where some members have no capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnQuota {
    /// The others are asked, as long as they are a quorum.
    Shrink,
    /// Nobody is asked.
    Refuse,
}

/// How a member or the judge stands towards a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It cannot serve it at all.
    Unfit,
    /// It could be sent now.
    Ready,
    /// It has no capacity until then, in milliseconds since the epoch; `None`: it is not known until when.
    Lacks(Option<i64>),
}

/// Why nobody is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Fewer members than a quorum can serve the request at all.
    Unfit,
    /// The judge has no capacity, until then.
    Judge(Option<i64>),
    /// This member's capacity is in the way, until then.
    Member(usize, Option<i64>),
}

/// Who is asked.
///
/// 1. Members that cannot serve the request at all are left out; fewer than a quorum left: nobody is asked.
/// 2. The judge has no capacity: nobody is asked. `None`: there is none, or it can be done without.
/// 3. `refuse`: a member that is fit has none: nobody is asked. Binding is the one that has to be waited for longest.
/// 4. Those that have capacity are no quorum: nobody is asked. Binding is the one with whom it will be one.
/// 5. Those that have capacity are asked.
pub(super) fn plan(
    members: &[Standing],
    judge: Option<Standing>,
    quorum: usize,
    on_quota: OnQuota,
) -> Result<Vec<usize>, Refusal> {
    let fit = members.iter().filter(|standing| **standing != Standing::Unfit).count();
    if fit < quorum {
        return Err(Refusal::Unfit);
    }
    if let Some(Standing::Lacks(until)) = judge {
        return Err(Refusal::Judge(until));
    }
    let mut lacking: Vec<(usize, Option<i64>)> = Vec::new();
    let mut ready = Vec::new();
    for (index, standing) in members.iter().enumerate() {
        match standing {
            Standing::Ready => ready.push(index),
            Standing::Lacks(until) => lacking.push((index, *until)),
            Standing::Unfit => {}
        }
    }
    // Those of whom nothing is known have to be waited for longest.
    lacking.sort_by_key(|(_, until)| until.unwrap_or(i64::MAX));
    let needed = quorum.saturating_sub(ready.len());
    let binding = match on_quota {
        OnQuota::Refuse => lacking.last(),
        OnQuota::Shrink => needed.checked_sub(1).and_then(|last| lacking.get(last)),
    };
    match binding {
        Some((index, until)) => Err(Refusal::Member(*index, *until)),
        None => Ok(ready),
    }
}

/// How far those that are asked are on their way to be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Muster {
    /// Admitted, and not sent yet; or answered without being sent anything.
    pub(super) ready: usize,
    /// They wait for a place, which may be one that another one of them holds.
    pub(super) queued: usize,
    /// It is not known yet whether they will be admitted.
    pub(super) coming: usize,
    /// They are not.
    pub(super) failed: usize,
    /// One of these has no capacity.
    pub(super) denied: bool,
}

/// What becomes of those that are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// They are sent.
    Go,
    /// All are given up, and nothing was sent.
    GiveUp,
    /// More of them are waited for.
    Wait,
}

impl Muster {
    /// Whether they are sent now. `patient`: it is early enough to have all of them begin together.
    ///
    /// 1. Those that may still be admitted are no quorum, or one has no capacity under `refuse`: all are given up.
    /// 2. All are there, or would be if those that are there were sent and made room: they are sent.
    /// 3. Those that are there are enough: they are sent, but not before others had their moment.
    /// 4. Else nothing would come of it without the others, which are waited for.
    pub(super) fn start(self, quorum: usize, on_quota: OnQuota, patient: bool) -> Start {
        let Muster { ready, queued, coming, failed, denied } = self;
        let refuses = on_quota == OnQuota::Refuse;
        if ready + queued + coming < quorum || (refuses && denied) {
            return Start::GiveUp;
        }
        if coming == 0 && queued == 0 {
            return Start::Go;
        }
        let needed = if refuses { ready + queued + coming + failed } else { quorum };
        let makes_room = coming == 0 && ready > 0;
        if !patient && (ready >= needed || makes_room) { Start::Go } else { Start::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::OnQuota::{Refuse, Shrink};
    use super::Standing::{Lacks, Ready, Unfit};
    use super::*;

    #[test]
    fn who_has_capacity_is_asked_as_long_as_it_is_a_quorum() {
        let members = [Ready, Lacks(Some(5)), Unfit, Ready];
        assert_eq!(plan(&members, Some(Ready), 2, Shrink), Ok(vec![0, 3]));
        assert_eq!(plan(&members, None, 2, Refuse), Err(Refusal::Member(1, Some(5))));
        assert_eq!(
            plan(&[Ready, Unfit, Ready], None, 2, Refuse),
            Ok(vec![0, 2]),
            "quota is all it refuses for"
        );
    }

    #[test]
    fn below_the_quorum_the_member_that_completes_it_is_binding() {
        let members = [Lacks(Some(30)), Ready, Lacks(Some(10)), Lacks(None), Lacks(Some(20))];
        assert_eq!(plan(&members, None, 3, Shrink), Err(Refusal::Member(4, Some(20))));
        assert_eq!(plan(&members, None, 5, Shrink), Err(Refusal::Member(3, None)));
        assert_eq!(plan(&members, None, 3, Refuse), Err(Refusal::Member(3, None)));
    }

    #[test]
    fn those_that_are_there_wait_for_the_others_as_long_as_they_are_no_quorum_without_them() {
        let muster =
            |ready, queued, coming, failed| Muster { ready, queued, coming, failed, denied: failed > 0 };
        for (muster, patient, start) in [
            (muster(3, 0, 0, 0), true, Start::Go),
            (muster(2, 0, 0, 1), true, Start::Go),
            (muster(2, 0, 1, 0), true, Start::Wait),
            (muster(2, 0, 1, 0), false, Start::Go),
            (muster(1, 0, 2, 0), false, Start::Wait),
            (muster(1, 1, 1, 0), false, Start::Wait),
            (muster(1, 2, 0, 0), true, Start::Wait),
            (muster(1, 2, 0, 0), false, Start::Go),
            (muster(0, 3, 0, 0), false, Start::Wait),
            (muster(1, 0, 0, 2), true, Start::GiveUp),
            (muster(0, 1, 0, 2), false, Start::GiveUp),
        ] {
            assert_eq!(muster.start(2, Shrink, patient), start, "{muster:?} {patient}");
        }
        assert_eq!(muster(2, 0, 1, 0).start(2, Refuse, false), Start::Wait, "all must have capacity");
        assert_eq!(muster(2, 1, 0, 0).start(2, Refuse, false), Start::Go, "it lacks a place alone");
        assert_eq!(muster(2, 0, 0, 1).start(2, Refuse, false), Start::GiveUp);
    }

    #[test]
    fn nobody_is_asked_where_it_could_come_to_nothing() {
        assert_eq!(plan(&[Ready, Unfit], Some(Ready), 2, Shrink), Err(Refusal::Unfit));
        assert_eq!(plan(&[Ready, Ready], Some(Lacks(Some(7))), 2, Shrink), Err(Refusal::Judge(Some(7))));
        assert_eq!(plan(&[], None, 1, Shrink), Err(Refusal::Unfit));
    }
}
