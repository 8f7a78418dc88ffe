use proptest::prelude::*;

use super::*;

const CLASSES: [TierClass; 4] =
    [TierClass::Device, TierClass::Edge, TierClass::Region, TierClass::Cloud];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn path(text: &str) -> TierPath {
    text.parse().expect(text)
}

fn check(parent: ParentView, handler: &HandlerView, want: &str) {
    let site = path("cloud.east.cell1");
    let view = View { site: &site, class: TierClass::Edge, parent };
    let asked = Asked { hops: 0, time_left: ms(1000) };
    let got = match decide(&asked, handler, &view) {
        Decision::Refuse(refusal) => format!("{:?}", refusal.kind),
        other => format!("{other:?}"),
    };
    assert_eq!(got, want, "{handler:?}");
}

fn near() -> ParentView {
    ParentView::Near { path: path("cloud.east"), rtt: ms(5) }
}

fn away() -> ParentView {
    ParentView::Away { path: path("cloud.east") }
}

#[test]
fn the_cases() {
    let anywhere = Placement::default();
    let region = Placement { min_tier: Some(TierClass::Region), max_tier: None };
    let device = Placement { min_tier: None, max_tier: Some(TierClass::Device) };
    let ready = |placement, wait| HandlerView::Ready { placement, wait };
    let absent = |placement| HandlerView::Absent { placement };
    check(near(), &ready(anywhere, ms(0)), "Run");
    check(away(), &ready(anywhere, ms(0)), "Run");
    check(near(), &ready(anywhere, ms(2000)), "Escalate { install: false }");
    check(away(), &ready(anywhere, ms(2000)), "Overloaded");
    check(near(), &absent(anywhere), "Escalate { install: true }");
    check(away(), &absent(anywhere), "InstallThenRun");
    check(near(), &absent(region), "Escalate { install: false }");
    check(away(), &absent(region), "Unavailable");
    check(near(), &ready(device, ms(0)), "NoHandler");
    check(ParentView::None, &ready(region, ms(0)), "NoHandler");
    check(near(), &HandlerView::AppUnknown { app: "x".into() }, "Escalate { install: false }");
    check(ParentView::None, &HandlerView::AppUnknown { app: "x".into() }, "NotFound");
    let missing = HandlerView::Missing { app: "x".into(), name: "y".into() };
    check(near(), &missing, "NotFound");
}

fn any_placement() -> impl Strategy<Value = Placement> {
    let class = || proptest::option::of((0usize..4).prop_map(|i| CLASSES[i]));
    (class(), class()).prop_map(|(min_tier, max_tier)| Placement { min_tier, max_tier })
}

proptest! {
    /// Never runs where the placement forbids it; never leaves late; never exceeds the hop limit.
    #[test]
    fn holds(
        placement in any_placement(),
        class in 0usize..4,
        ready in any::<bool>(),
        wait_ms in 0u64..4000,
        left_ms in 0u64..2000,
        rtt_ms in proptest::option::of(0u64..3000),
        hops in 0u32..40,
    ) {
        let site = path("cloud.east");
        let parent = match rtt_ms {
            Some(rtt) => ParentView::Near { path: path("cloud"), rtt: ms(rtt) },
            None => ParentView::Away { path: path("cloud") },
        };
        let view = View { site: &site, class: CLASSES[class], parent };
        let handler = match ready {
            true => HandlerView::Ready { placement, wait: ms(wait_ms) },
            false => HandlerView::Absent { placement },
        };
        let asked = Asked { hops, time_left: ms(left_ms) };
        let decision = decide(&asked, &handler, &view);
        match decision {
            Decision::Run => {
                prop_assert_eq!(placement.fit(view.class), Fit::Here);
                prop_assert!(wait_ms < left_ms && hops <= HOPS_MAX);
            }
            Decision::InstallThenRun => prop_assert_eq!(placement.fit(view.class), Fit::Here),
            Decision::Escalate { .. } => {
                prop_assert!(rtt_ms.is_some_and(|rtt| rtt < left_ms) && hops <= HOPS_MAX);
                prop_assert!(placement.fit(view.class) != Fit::Below);
            }
            Decision::Refuse(refusal) => prop_assert_eq!(refusal.at.as_deref(), Some("cloud.east")),
        }
        // More load never brings a request back that was turned away with less.
        if let HandlerView::Ready { placement, wait } = handler {
            let busier = HandlerView::Ready { placement, wait: wait + ms(500) };
            if decide(&asked, &busier, &view) == Decision::Run {
                prop_assert_eq!(decide(&asked, &handler, &view), Decision::Run);
            }
        }
    }
}
