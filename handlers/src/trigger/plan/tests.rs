use std::time::Instant;

use bus::TierClass;
use bus::event::{DONE_HEADER, ONLY_HEADER, TO_HEADER};
use bus::route::Site;
use bus::route::policy::Devices;

use super::*;
use crate::deploy::Registered;

const MANIFEST: &str = r#"
[app]
name = "app"
version = "1"
[[handler]]
name = "any"
command = "sha256-DIGEST"
[[handler.trigger]]
event = "go"
[[handler]]
name = "edge"
command = "sha256-DIGEST"
placement = { max_tier = "edge" }
[[handler.trigger]]
event = "go"
[[handler]]
name = "region"
command = "sha256-DIGEST"
placement = { min_tier = "region" }
[[handler.trigger]]
event = "go"
[[handler]]
name = "wish"
command = "sha256-DIGEST"
placement = { prefer = "region" }
[[handler.trigger]]
event = "go"
[[handler]]
name = "gpu"
command = "sha256-DIGEST"
placement = { needs = ["gpu"] }
[[handler.trigger]]
event = "go"
"#;

fn app() -> App {
    let manifest = MANIFEST.replace("DIGEST", &"0".repeat(64));
    App::new(&Registered { name: "app".into(), revision: 1, manifest }).unwrap()
}

fn view(path: &str, class: TierClass, above: &[(&str, TierClass)]) -> View {
    let now = Instant::now();
    let site = |path: &str, class| Site::new(path.parse().unwrap(), class, now);
    let here = site(path, class);
    let parent = match here.path.parent() {
        Some(path) => ParentView::Near { path, rtt: Default::default() },
        None => ParentView::None,
    };
    let above = above.iter().map(|(path, class)| site(path, *class)).collect();
    View { here, parent, above, below: vec![] }
}

fn edge() -> View {
    let above = [("cloud.east", TierClass::Region), ("cloud", TierClass::Cloud)];
    view("cloud.east.cell1", TierClass::Edge, &above)
}

fn check(view: &View, headers: &[(&str, &str)], want: &str) {
    let mut event = Event::new("app.go", "cloud.east.cell1", "").unwrap();
    for (name, value) in headers {
        event.headers.insert((*name).to_owned(), (*value).to_owned());
    }
    let plan = Plan::of(&app(), &event, view);
    let below = plan.below.iter().map(|(name, site)| format!("{name}@{site}"));
    let nowhere: Vec<&str> = plan.nowhere.iter().map(|(name, _)| name.as_str()).collect();
    let below: Vec<String> = below.collect();
    let got = format!(
        "{} | {} | {} | {}",
        plan.here.join(" "),
        if plan.above { "up" } else { "" },
        below.join(" "),
        nowhere.join(" ")
    );
    assert_eq!(got, want, "{headers:?} at {}", view.here.path);
}

#[test]
fn each_handler_has_one_place() {
    let region = view("cloud.east", TierClass::Region, &[("cloud", TierClass::Cloud)]);
    let root = view("cloud", TierClass::Cloud, &[]);
    check(&edge(), &[], "any edge | up |  | ");
    // What climbed from there brings the list of what is settled.
    check(&region, &[(DONE_HEADER, "any,edge")], "region wish | up |  | ");
    check(&root, &[(DONE_HEADER, "any,edge,region,wish")], " |  |  | gpu");
    check(&root, &[], "any region wish |  |  | edge gpu");
    let mut alone = edge();
    alone.above.clear();
    check(&alone, &[], "any edge wish | up |  | ");
    let mut below = root;
    let cell = Site::new("cloud.east".parse().unwrap(), TierClass::Region, below.here.heard);
    below.below.push(Site { devices: Devices::GPU, ..cell });
    check(&below, &[(DONE_HEADER, "any,edge,region,wish")], " |  | gpu@cloud.east | ");
}

#[test]
fn what_is_for_one_handler_or_site_stays() {
    check(&edge(), &[(ONLY_HEADER, "any")], "any |  |  | ");
    check(&edge(), &[(ONLY_HEADER, "region")], " |  |  | region");
    check(&edge(), &[(ONLY_HEADER, "ghost")], " |  |  | ghost");
    check(&edge(), &[(TO_HEADER, "cloud.east.cell1")], "any edge wish |  |  | region gpu");
}
