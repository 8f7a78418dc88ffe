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

fn site(text: &str, class: TierClass, rtt_ms: u64, now: Instant) -> Site {
    Site { rtt: ms(rtt_ms), ..Site::new(path(text), class, now) }
}

fn near() -> ParentView {
    ParentView::Near { path: path("cloud.east"), rtt: ms(5) }
}

fn away() -> ParentView {
    ParentView::Away { path: path("cloud.east") }
}

/// The cell of a small tree, as it sees itself.
fn cell(parent: ParentView, now: Instant) -> View {
    View {
        here: site("cloud.east.cell1", TierClass::Edge, 0, now),
        above: match parent {
            ParentView::None => vec![],
            _ => vec![
                site("cloud.east", TierClass::Region, 5, now),
                site("cloud", TierClass::Cloud, 30, now),
            ],
        },
        parent,
        below: vec![site("cloud.east.cell1.cam", TierClass::Device, 2, now)],
    }
}

const ASKED: Asked<'static> = Asked {
    hops: 0,
    time_left: Duration::from_secs(1),
    bytes: 0,
    from_above: false,
    keyed: false,
    user_at: None,
    sent: &[],
};

fn text(decision: Decision) -> String {
    match decision {
        Decision::Refuse(refusal) => format!("{:?}", refusal.kind),
        Decision::Send { to } => format!("Send {to}"),
        Decision::Escalate { to, install: true } => format!("Escalate {to} and install"),
        Decision::Escalate { to, install: false } => format!("Escalate {to}"),
        other => format!("{other:?}"),
    }
}

fn check(view: &View, placement: &Placement, code: CodeView, want: &str) {
    let handler = HandlerView::Known { key: "a/h", placement, code };
    assert_eq!(
        text(decide(&ASKED, &handler, view, view.here.heard)),
        want,
        "{placement:?} {code:?}"
    );
}

const NOW: CodeView = CodeView::Ready { wait: Duration::ZERO, run: Duration::ZERO };
const BUSY: CodeView = CodeView::Ready { wait: Duration::from_secs(2), run: Duration::ZERO };
const UP: &str = "Escalate cloud.east";

fn delay(site: &Site, bytes: usize, now: Instant) -> Duration {
    site.rtt + site.transfer(bytes) + site.queue("a/h", now)
}

fn queue(wait_ms: u64) -> BTreeMap<String, Duration> {
    BTreeMap::from([("a/h".to_owned(), ms(wait_ms))])
}

fn waits(wait_ms: u64) -> CodeView {
    CodeView::Ready { wait: ms(wait_ms), run: Duration::ZERO }
}

#[test]
fn tiers_and_load() {
    let now = Instant::now();
    let (near, away) = (cell(near(), now), cell(away(), now));
    let anywhere = Placement::default();
    let region = Placement { min_tier: Some(TierClass::Region), ..Default::default() };
    let device = Placement { max_tier: Some(TierClass::Device), ..Default::default() };
    let edge = Placement { max_tier: Some(TierClass::Edge), ..Default::default() };
    check(&near, &anywhere, NOW, "Run");
    check(&away, &anywhere, NOW, "Run");
    check(&near, &anywhere, BUSY, UP);
    check(&away, &anywhere, BUSY, "Overloaded");
    check(&near, &anywhere, CodeView::Absent, "Escalate cloud.east and install");
    check(&away, &anywhere, CodeView::Absent, "InstallThenRun");
    // What no tier above may run is not sent there.
    check(&near, &edge, CodeView::Absent, "InstallThenRun");
    check(&near, &edge, BUSY, "Overloaded");
    check(&near, &region, CodeView::Absent, UP);
    check(&away, &region, CodeView::Absent, "Unavailable");
    check(&near, &device, NOW, "NoHandler");
    check(&cell(ParentView::None, now), &region, NOW, "NoHandler");
    // A little sooner elsewhere is no reason to go.
    check(&near, &anywhere, waits(25), "Run");
    check(&near, &anywhere, waits(26), UP);
    // The queues above count too.
    let mut full = near.clone();
    for site in &mut full.above {
        site.waits.insert("a/h".into(), ms(1500));
    }
    check(&full, &anywhere, waits(900), "Run");
    check(&full, &anywhere, BUSY, "Overloaded");
    check(&full, &region, NOW, "Overloaded");
    full.above[1].waits.clear();
    check(&full, &anywhere, BUSY, UP);
}

#[test]
fn a_queue_is_joined_when_the_answer_comes_in_time() {
    let now = Instant::now();
    let (near, alone) = (cell(near(), now), cell(ParentView::None, now));
    let anywhere = Placement::default();
    let code = |wait_ms, run_ms| CodeView::Ready { wait: ms(wait_ms), run: ms(run_ms) };
    check(&alone, &anywhere, code(799, 100), "Run");
    let handler = HandlerView::Known { key: "a/h", placement: &anywhere, code: code(800, 100) };
    let Decision::Refuse(refusal) = decide(&ASKED, &handler, &alone, now) else { panic!("runs") };
    assert_eq!(refusal.retry_after_ms, Some(1));
    // Who is slow and has a free place tries, here and above.
    check(&alone, &anywhere, code(0, 5_000), "Run");
    check(&near, &anywhere, code(100, 5_000), UP);
    let mut full = near;
    full.above.iter_mut().for_each(|site| site.waits = queue(750));
    check(&full, &anywhere, code(950, 100), UP);
    check(&full, &anywhere, code(950, 200), "Overloaded");
}

#[test]
fn what_was_heard_of_a_queue_is_worked_off() {
    let now = Instant::now();
    let mut view = cell(near(), now);
    view.above.iter_mut().for_each(|site| site.waits = queue(1_200));
    let anywhere = Placement::default();
    let handler = HandlerView::Known { key: "a/h", placement: &anywhere, code: BUSY };
    let after = |late_ms, view: &View| text(decide(&ASKED, &handler, view, now + ms(late_ms)));
    assert_eq!((after(200, &view).as_str(), after(206, &view).as_str()), ("Overloaded", UP));
    // Who was refused knows better, until it hears more.
    let (by, late) = (path("cloud.east"), now + ms(500));
    let (left, run, retry_after) = (ms(995), ms(0), ms(100));
    let refused = Refused { by: &by, key: "a/h", left, run, retry_after };
    // Those above it have no room either, or it would have passed the request on.
    let full = view.full(&refused, late);
    let (near, far) = (Duration::from_micros(2_142_500), ms(1_495));
    assert_eq!(full, [(by.clone(), near), (path("cloud"), far)]);
    let further = view.full(&Refused { by: &path("cloud"), ..refused }, late);
    assert_eq!(further, [(path("cloud"), near)]);
    view.above.truncate(1);
    assert_eq!(after(500, &view), UP);
    view.note_full("a/h", &full);
    assert_eq!(view.full(&refused, late), []);
    assert_eq!((after(1_147, &view).as_str(), after(1_148, &view).as_str()), ("Overloaded", UP));
    let stranger = path("cloud.west");
    assert_eq!(view.full(&Refused { by: &stranger, ..refused }, late), []);
    for n in 0..2 * WAITS_MAX {
        let key = format!("a/h{n}");
        let full = view.full(&Refused { key: &key, ..refused }, late);
        view.note_full(&key, &full);
    }
    assert_eq!(view.above[0].waits.len(), WAITS_MAX);
}

#[test]
fn what_was_sent_counts_before_it_is_heard_of() {
    let now = Instant::now();
    let anywhere = Placement::default();
    let mut view = cell(near(), now);
    let pace = |each_us, free| BTreeMap::from([("a/h".to_owned(), Pace { each_us, free })]);
    view.above[0].paces = pace(10_000, 2);
    view.above[1].paces = pace(5_000, 0);
    let check = |wait_ms, [east, cloud]: [u32; 2], want: &str, bound: Option<&str>| {
        let sent = [(path("cloud.east"), east), (path("cloud"), cloud)];
        let asked = Asked { sent: &sent, ..ASKED };
        let code = waits(wait_ms);
        let handler = HandlerView::Known { key: "a/h", placement: &anywhere, code };
        let decision = decide(&asked, &handler, &view, now);
        let to = bound_for(&decision, &asked, &handler, &view, now);
        assert_eq!(to.as_ref().map(TierPath::as_str), bound, "{wait_ms} {sent:?}");
        assert_eq!(text(decision), want, "{wait_ms} {sent:?}");
    };
    // Two places are free: the second to go there finds one, the third does not.
    check(26, [0, 0], UP, Some("cloud.east"));
    check(26, [1, 0], UP, Some("cloud.east"));
    check(26, [2, 0], "Run", None);
    // The parent passes it on where that is sooner.
    check(100, [10, 0], UP, Some("cloud"));
    check(100, [10, 20], "Run", None);
    check(2_000, [100, 200], UP, Some("cloud.east"));
    check(2_000, [101, 200], "Overloaded", None);
}

#[test]
fn the_way_is_not_for_others_to_spend() {
    let view = cell(near(), Instant::now());
    let told = |to: &str, left_ms| view.budget(&path(to), ms(left_ms));
    assert_eq!((told("cloud", 100), told("cloud.east.cell1.cam", 100)), (ms(70), ms(98)));
    assert_eq!((told("cloud", 20), told("elsewhere", 20)), (ms(0), ms(20)));
}

#[test]
fn wishes_are_followed_while_that_costs_no_answer() {
    let now = Instant::now();
    let (mut near, away) = (cell(near(), now), cell(away(), now));
    let prefer = Placement { prefer: Some(TierClass::Region), ..Default::default() };
    let table = Placement { near: Some("a_t".into()), ..Default::default() };
    check(&near, &prefer, NOW, UP);
    check(&away, &prefer, NOW, "Run");
    // Nobody is known to hold the table.
    check(&near, &table, NOW, "Run");
    near.above[1].tables.insert("a_t".into());
    check(&near, &table, NOW, "Escalate cloud");
    let at_edge = Placement { max_tier: Some(TierClass::Edge), ..table.clone() };
    check(&near, &at_edge, NOW, "Run");
    near.here.tables.insert("a_t".into());
    check(&near, &table, NOW, "Run");
    near.above[0].waits.insert("a/h".into(), ms(1500));
    near.above[1].waits.insert("a/h".into(), ms(1500));
    check(&near, &prefer, NOW, "Run");
}

#[test]
fn who_would_only_pass_it_on_is_not_asked() {
    let now = Instant::now();
    let view = cell(near(), now);
    let cloud = Placement { min_tier: Some(TierClass::Cloud), ..Default::default() };
    check(&view, &cloud, NOW, "Escalate cloud");
    let prefer = Placement { prefer: Some(TierClass::Cloud), ..Default::default() };
    check(&view, &prefer, NOW, "Escalate cloud");
    // A region may run it and has a say, however busy it is.
    let region = Placement { min_tier: Some(TierClass::Region), ..cloud.clone() };
    check(&view, &region, NOW, UP);
    // Each tier remembers what it answered to a key, and so must be asked.
    let handler = HandlerView::Known { key: "a/h", placement: &cloud, code: NOW };
    assert_eq!(text(decide(&Asked { keyed: true, ..ASKED }, &handler, &view, now)), UP);
    // What was heard long ago is not counted on, nor what was never heard.
    assert_eq!(text(decide(&ASKED, &handler, &view, now + STALE_AFTER)), UP);
    check(&View { above: vec![], ..view }, &cloud, NOW, UP);
}

#[test]
fn a_body_takes_its_time() {
    let now = Instant::now();
    let mut view = cell(near(), now);
    let region = Placement { min_tier: Some(TierClass::Region), ..Placement::default() };
    let prefer = Placement { prefer: Some(TierClass::Region), ..Placement::default() };
    let gpu = Placement { needs: Devices::GPU, ..Placement::default() };
    let check = |view: &View, placement: &Placement, code, bytes: usize, want: &str| {
        let handler = HandlerView::Known { key: "a/h", placement, code };
        let decision = decide(&Asked { bytes, ..ASKED }, &handler, view, now);
        assert_eq!(text(decision), want, "{placement:?} {code:?} {bytes}");
    };
    let waiting = waits(500);
    // While nothing was measured, nothing is known.
    check(&view, &region, NOW, 2_000_000, UP);
    view.above[0].bytes_per_s = Some(1_000_000);
    view.above[1].bytes_per_s = Some(1_000_000);
    check(&view, &region, NOW, 900_000, UP);
    check(&view, &region, NOW, 2_000_000, "DeadlineExceeded");
    check(&view, &prefer, NOW, 900_000, UP);
    check(&view, &prefer, NOW, 2_000_000, "Run");
    check(&view, &Placement::default(), waiting, 100_000, UP);
    check(&view, &Placement::default(), waiting, 600_000, "Run");
    check(&view, &Placement::default(), CodeView::Absent, 2_000_000, "InstallThenRun");
    let unknown = HandlerView::AppUnknown { app: "x" };
    let decision = decide(&Asked { bytes: 2_000_000, ..ASKED }, &unknown, &view, now);
    let Decision::Refuse(refusal) = decision else { panic!("{decision:?}") };
    assert!(refusal.message.contains("the body takes 2000 ms to come there"), "{refusal}");
    // Further down it is as above: where it comes sooner.
    let mut two = cell(ParentView::None, now);
    two.below.push(site("cloud.east.cell1.eye", TierClass::Device, 9, now));
    two.below.iter_mut().for_each(|site| site.devices = Devices::GPU);
    check(&two, &gpu, NOW, 900_000, "Send cloud.east.cell1.cam");
    two.below[0].bytes_per_s = Some(1_000_000);
    check(&two, &gpu, NOW, 1_000, "Send cloud.east.cell1.cam");
    check(&two, &gpu, NOW, 900_000, "Send cloud.east.cell1.eye");
}

#[test]
fn who_lacks_the_code_is_further_away_and_not_out_of_reach() {
    let now = Instant::now();
    let mut view = cell(near(), now);
    let any = Placement::default();
    let region = Placement { min_tier: Some(TierClass::Region), ..Placement::default() };
    let waiting = waits(800);
    check(&view, &any, waiting, UP);
    for site in &mut view.above {
        site.installed = Some(BTreeSet::from(["a/other".to_owned()]));
    }
    // Nobody above would be sooner done; it is a way out all the same.
    check(&view, &any, waiting, "Run");
    check(&view, &any, BUSY, UP);
    check(&view, &any, CodeView::Absent, "Escalate cloud.east and install");
    check(&view, &region, NOW, UP);
    view.above[1].installed = Some(BTreeSet::from(["a/h".to_owned()]));
    check(&view, &any, waiting, UP);
    let gpu = Placement { needs: Devices::GPU, ..Placement::default() };
    let mut two = cell(ParentView::None, now);
    two.below.push(site("cloud.east.cell1.eye", TierClass::Device, 9, now));
    two.below.iter_mut().for_each(|site| site.devices = Devices::GPU);
    check(&two, &gpu, NOW, "Send cloud.east.cell1.cam");
    two.below[0].installed = Some(BTreeSet::new());
    check(&two, &gpu, NOW, "Send cloud.east.cell1.eye");
}

#[test]
fn a_request_goes_down_towards_its_user_once() {
    let now = Instant::now();
    let mut view = cell(near(), now);
    let far = site("cloud.east.cell1.cam.eye", TierClass::Device, 4, now);
    let beside = site("cloud.east.cell1.other", TierClass::Device, 1, now);
    view.below.extend([far, beside]);
    let any = Placement::default();
    let edge = Placement { min_tier: Some(TierClass::Edge), ..Placement::default() };
    let check =
        |view: &View, placement: &Placement, user_at: &str, asked: Asked<'_>, want: &str| {
            let user_at = path(user_at);
            let asked = Asked { user_at: Some(&user_at), ..asked };
            let handler = HandlerView::Known { key: "a/h", placement, code: NOW };
            assert_eq!(text(decide(&asked, &handler, view, now)), want, "{user_at} {placement:?}");
        };
    let eye = "cloud.east.cell1.cam.eye";
    check(&view, &any, eye, ASKED, "Send cloud.east.cell1.cam.eye");
    check(&view, &any, "cloud.east.cell1.cam.nobody", ASKED, "Send cloud.east.cell1.cam");
    // Here, above and elsewhere: it is as near as it gets.
    for user_at in ["cloud.east.cell1", "cloud.east", "cloud.west", "cloud.east.cell1.unheard"] {
        check(&view, &any, user_at, ASKED, "Run");
    }
    check(&view, &edge, eye, ASKED, "Run");
    check(&view, &any, eye, Asked { from_above: true, ..ASKED }, "Run");
    // One that is too busy, too far or silent is left out.
    view.below[1].waits.insert("a/h".into(), ms(2_000));
    check(&view, &any, eye, ASKED, "Send cloud.east.cell1.cam");
    view.below[0].rtt = ms(1_000);
    check(&view, &any, eye, ASKED, "Run");
    view.below[0].rtt = ms(2);
    view.below[0].heard = now.checked_sub(STALE_AFTER).expect("the clock runs for a while");
    check(&view, &any, eye, ASKED, "Run");
}

#[test]
fn a_device_is_gone_to_where_it_is() {
    let now = Instant::now();
    let (near, away) = (cell(near(), now), cell(away(), now));
    let gpu = Placement { needs: Devices::GPU, ..Default::default() };
    // Unknown here, perhaps known above.
    check(&near, &gpu, NOW, UP);
    check(&away, &gpu, NOW, "Unavailable");
    check(
        &View { parent: ParentView::None, above: vec![], ..near.clone() },
        &gpu,
        NOW,
        "NoHandler",
    );
    let with = |mut view: View, above: bool| {
        let sites = if above { &mut view.above } else { &mut view.below };
        sites[0].devices = Devices::CPU.with(Devices::GPU);
        view
    };
    check(&with(near.clone(), true), &gpu, NOW, UP);
    check(&with(near.clone(), false), &gpu, NOW, "Send cloud.east.cell1.cam");
    check(&with(away.clone(), false), &gpu, NOW, "Send cloud.east.cell1.cam");
    // At equal distance the path is kept to.
    let mut both = with(with(near.clone(), true), false);
    check(&both, &gpu, NOW, "Send cloud.east.cell1.cam");
    both.below[0].rtt = both.above[0].rtt;
    check(&both, &gpu, NOW, UP);
    let mut old = with(away, false);
    old.here.heard = now;
    let handler = HandlerView::Known { key: "a/h", placement: &gpu, code: NOW };
    assert_eq!(text(decide(&ASKED, &handler, &old, now + STALE_AFTER)), "Unavailable");
    let asked = Asked { from_above: true, ..ASKED };
    assert_eq!(text(decide(&asked, &handler, &near, now)), "NoHandler");
    // One that is busy is within reach.
    let mut busy = with(View { parent: ParentView::None, above: vec![], ..near }, false);
    busy.below[0].waits.insert("a/h".into(), ms(1_500));
    check(&busy, &gpu, NOW, "Overloaded");
}

mod simulated;

#[test]
fn the_unknown_is_named() {
    let now = Instant::now();
    let unknown = HandlerView::AppUnknown { app: "x" };
    let missing = HandlerView::Missing { app: "x", name: "y" };
    let decided = |handler, view: &View| text(decide(&ASKED, handler, view, now));
    assert_eq!(decided(&unknown, &cell(near(), now)), UP);
    assert_eq!(decided(&unknown, &cell(ParentView::None, now)), "NotFound");
    assert_eq!(decided(&missing, &cell(near(), now)), "NotFound");
    let late = Asked { time_left: ms(5), ..ASKED };
    assert_eq!(text(decide(&late, &unknown, &cell(near(), now), now)), "DeadlineExceeded");
    let circling = Asked { hops: HOPS_MAX + 1, ..ASKED };
    assert_eq!(text(decide(&circling, &unknown, &cell(near(), now), now)), "Internal");
}

/// A random tree, as it is: what each site believes of the others is drawn from it, or is old.
#[derive(Clone, Debug)]
struct Tree {
    sites: Vec<Drawn>,
}

#[derive(Clone, Debug)]
struct Drawn {
    /// The position of its parent among the sites; the first is the root.
    parent: usize,
    class: usize,
    devices: u8,
    holds: bool,
    wait_ms: u64,
    ready: bool,
    rtt_ms: u64,
    linked: bool,
    /// Of its link, where that was measured.
    bytes_per_s: Option<u64>,
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let drawn = (0usize..16, 0usize..4, 0u8..8, any::<bool>(), 0u64..3000, any::<bool>());
    let link = (1u64..400, proptest::bool::weighted(0.9), proptest::option::of(0u64..5_000_000));
    let drawn = (drawn, link).prop_map(|(site, (rtt_ms, linked, bytes_per_s))| {
        let (parent, class, devices, holds, wait_ms, ready) = site;
        Drawn { parent, class, devices, holds, wait_ms, ready, rtt_ms, linked, bytes_per_s }
    });
    proptest::collection::vec(drawn, 1..16).prop_map(|mut sites| {
        for (at, site) in sites.iter_mut().enumerate().skip(1) {
            site.parent %= at;
        }
        Tree { sites }
    })
}

impl Tree {
    fn path(&self, at: usize) -> TierPath {
        match at {
            0 => path("s0"),
            _ => {
                let parent = self.path(self.sites[at].parent);
                // Deeper than paths may be: hang the rest below the deepest.
                parent.child(&format!("s{at}")).unwrap_or(parent)
            }
        }
    }

    fn depth_ok(&self) -> bool {
        (0..self.sites.len()).all(|at| self.path(at).name() == format!("s{at}"))
    }

    fn lineage(&self, at: usize) -> Vec<usize> {
        std::iter::successors((at > 0).then(|| self.sites[at].parent), |&up| {
            (up > 0).then(|| self.sites[up].parent)
        })
        .collect()
    }

    /// What one site believes of another, by the links on the way; `lies` makes it believe in no
    /// queue, every device and code everywhere.
    fn believed(&self, at: usize, way: &[usize], lies: bool, now: Instant) -> Site {
        let drawn = &self.sites[at];
        let rtt_ms = way.iter().map(|hop| self.sites[*hop].rtt_ms).sum();
        let mut site = site(self.path(at).as_str(), CLASSES[drawn.class], rtt_ms, now);
        site.bytes_per_s = way.iter().filter_map(|hop| self.sites[*hop].bytes_per_s).min();
        site.devices = if lies { Devices(7) } else { Devices(drawn.devices) };
        if !lies {
            site.waits.insert("a/h".into(), ms(drawn.wait_ms));
            site.installed = Some(drawn.ready.then(|| "a/h".to_owned()).into_iter().collect());
        }
        if drawn.holds || at == 0 {
            site.tables.insert("a_t".into());
        }
        site
    }

    fn view(&self, at: usize, lies: bool, now: Instant) -> View {
        let lineage = self.lineage(at);
        let mut way = vec![at];
        let mut above = vec![];
        for &up in &lineage {
            above.push(self.believed(up, &way, lies, now));
            way.push(up);
        }
        let parent = match lineage.first() {
            None => ParentView::None,
            Some(&up) if self.sites[at].linked => {
                ParentView::Near { path: self.path(up), rtt: ms(self.sites[at].rtt_ms) }
            }
            Some(&up) => ParentView::Away { path: self.path(up) },
        };
        let below = (0..self.sites.len()).filter(|other| self.lineage(*other).contains(&at));
        let below = below.map(|other| {
            let on_way = self.lineage(other).into_iter().take_while(|up| *up != at);
            let way: Vec<usize> = std::iter::once(other).chain(on_way).collect();
            self.believed(other, &way, lies, now)
        });
        let below = below.collect();
        View { here: self.believed(at, &[], false, now), parent, above, below }
    }
}

fn any_placement() -> impl Strategy<Value = Placement> {
    let class = || proptest::option::of((0usize..4).prop_map(|i| CLASSES[i]));
    let needs = prop_oneof![3 => Just(0u8), 1 => 0u8..8];
    (class(), class(), class(), needs, any::<bool>()).prop_map(|(min, max, prefer, needs, near)| {
        let near = near.then(|| "a_t".to_owned());
        Placement { min_tier: min, max_tier: max, prefer, needs: Devices(needs), near }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A request walks the tree, deciding anew at each site, whether what they believe is true or
    /// not: it ends; it leaves the path to the root for a device or towards its user only; it runs
    /// only where it may;
    /// and no site lets it go knowing that it will be late.
    #[test]
    fn a_request_ends_where_it_may_run(
        tree in any_tree().prop_filter("paths have a deepest", Tree::depth_ok),
        placement in any_placement(),
        start in 0usize..16,
        user_at in proptest::option::of(0usize..16),
        left_ms in 1u64..2500,
        bytes in 0usize..2_000_000,
        lies in any::<bool>(),
    ) {
        let now = Instant::now();
        let start = start % tree.sites.len();
        let mut at = start;
        let user_at = user_at.map(|at| tree.path(at % tree.sites.len()));
        let user = user_at.as_ref();
        let mut asked = Asked { time_left: ms(left_ms), bytes, user_at: user, ..ASKED };
        let mut ended = false;
        for _ in 0..=2 * crate::path::DEPTH_MAX {
            let drawn = &tree.sites[at];
            let view = tree.view(at, lies, now);
            let code = match drawn.ready {
                true => waits(drawn.wait_ms),
                false => CodeView::Absent,
            };
            let handler = HandlerView::Known { key: "a/h", placement: &placement, code };
            match decide(&asked, &handler, &view, now) {
                Decision::Run => {
                    prop_assert!(placement.allows(&view.here) && drawn.ready);
                    prop_assert!(ms(drawn.wait_ms) < asked.time_left);
                    ended = true;
                }
                Decision::InstallThenRun => {
                    prop_assert!(placement.allows(&view.here) && !drawn.ready);
                    ended = true;
                }
                Decision::Escalate { to, install } => {
                    prop_assert!(!asked.from_above && drawn.linked && at != 0);
                    let link = &view.above[0];
                    prop_assert!(ms(drawn.rtt_ms) + link.transfer(bytes) < asked.time_left);
                    prop_assert!(!install || placement.allows(&view.here));
                    // Late for certain: every site above that may run it is.
                    let able = view.above.iter().filter(|site| placement.allows(site));
                    let soonest = able.map(|site| delay(site, bytes, now)).min();
                    prop_assert!(soonest.is_none_or(|delay| delay < asked.time_left));
                    let took = ms(drawn.rtt_ms / 2) + link.transfer(bytes);
                    asked.time_left = asked.time_left.saturating_sub(took);
                    asked.user_at = None;
                    let lineage = tree.lineage(at);
                    at = (0..tree.sites.len()).find(|at| tree.path(*at) == to).unwrap();
                    // Whom it passes by would only have passed it on.
                    let passed = lineage.into_iter().take_while(|up| *up != at);
                    let sites = view.above.iter().take(passed.count());
                    let mut fits = sites.map(|site| placement.fit(site));
                    prop_assert!(fits.all(|fit| matches!(fit, Fit::Above | Fit::Rather)));
                }
                Decision::Send { to } => {
                    prop_assert!(!asked.from_above);
                    let to_user = asked.user_at.is_some_and(|user_at| to.contains(user_at));
                    prop_assert!(to_user || !view.here.devices.covers(placement.needs));
                    let site = view.below.iter().find(|site| site.path == to).unwrap();
                    prop_assert!(placement.allows(site));
                    prop_assert!(delay(site, bytes, now) < asked.time_left);
                    prop_assert!(view.here.path.contains(&to) && view.here.path != to);
                    asked.from_above = true;
                    at = (0..tree.sites.len()).find(|at| tree.path(*at) == to).unwrap();
                }
                Decision::Refuse(refusal) => {
                    prop_assert_eq!(refusal.at.as_deref(), Some(view.here.path.as_str()));
                    let waits = refusal.kind == RefusalKind::Overloaded;
                    prop_assert_eq!(waits, refusal.retry_after_ms.is_some());
                    ended = true;
                }
            }
            if ended {
                break;
            }
            asked.hops += 1;
        }
        prop_assert!(ended, "still under way after {} hops", asked.hops);
        let end = tree.path(at);
        let on_path = end.contains(&tree.path(start));
        let nearer = user_at.is_some_and(|user_at| end.contains(&user_at));
        prop_assert!(on_path || nearer || placement.needs != Devices::default());
    }

    /// More load here never keeps a request that less load sent away; more load above, a slower
    /// link or a larger body never draws one there, nor does code that goes from there; and what is
    /// no sooner further away is not gone to.
    #[test]
    fn load_pushes_and_never_pulls(
        tree in any_tree().prop_filter("paths have a deepest", Tree::depth_ok),
        placement in any_placement(),
        at in 0usize..16,
        left_ms in 1u64..2500,
        more_ms in 0u64..2000,
        bytes in 0usize..2_000_000,
        more_bytes in 0usize..2_000_000,
    ) {
        let now = Instant::now();
        let at = at % tree.sites.len();
        let view = tree.view(at, false, now);
        let asked = Asked { time_left: ms(left_ms), bytes, ..ASKED };
        let wait = ms(tree.sites[at].wait_ms);
        let decided_of = |asked: &Asked<'_>, view: &View, wait| {
            let code = CodeView::Ready { wait, run: Duration::ZERO };
            let handler = HandlerView::Known { key: "a/h", placement: &placement, code };
            decide(asked, &handler, view, now)
        };
        let decided = |view: &View, wait| decided_of(&asked, view, wait);
        let before = decided(&view, wait);
        if decided(&view, wait + ms(more_ms)) == Decision::Run {
            prop_assert_eq!(&before, &Decision::Run);
        }
        let mut busier = view.clone();
        for site in &mut busier.above {
            *site.waits.entry("a/h".into()).or_default() += ms(more_ms);
        }
        let goes_up = |to: &Decision| matches!(to, Decision::Escalate { install: false, .. });
        let mut slower = view.clone();
        for site in &mut slower.above {
            site.bytes_per_s = site.bytes_per_s.map(|rate| rate / 2);
        }
        let mut emptier = view.clone();
        emptier.above.iter_mut().for_each(|site| site.installed = Some(BTreeSet::new()));
        let mut paced = view.clone();
        for site in &mut paced.above {
            site.paces.insert("a/h".into(), Pace { each_us: 10_000, free: 1 });
        }
        let sent = view.above.iter().map(|site| (site.path.clone(), 1 + bytes as u32 % 99));
        let laden = Asked { sent: &sent.collect::<Vec<_>>(), ..asked };
        if goes_up(&decided_of(&laden, &paced, wait)) {
            prop_assert!(goes_up(&before), "laden: {before:?}");
        }
        for (what, worse) in [("busier", busier), ("slower", slower), ("emptier", emptier)] {
            if goes_up(&decided(&worse, wait)) {
                prop_assert!(goes_up(&before), "{what}: {before:?}");
            }
        }
        // A device further down may be behind the slower link.
        let larger = Asked { bytes: bytes + more_bytes, ..asked };
        let by_path = view.here.devices.covers(placement.needs);
        if by_path && goes_up(&decided_of(&larger, &view, wait)) {
            prop_assert!(goes_up(&before), "larger: {before:?}");
        }
        let soonest = view.above.iter().map(|site| delay(site, bytes, now)).min();
        if placement.fit(&view.here) == Fit::Here && wait < asked.time_left
            && soonest.is_none_or(|above| wait <= above)
        {
            prop_assert_eq!(&before, &Decision::Run);
        }
    }
}
