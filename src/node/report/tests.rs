use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn brief(path: TierPath) -> Brief {
    Brief {
        path,
        class: TierClass::Edge,
        version: "1.0.0".into(),
        uptime_s: 86_400,
        link: None,
        devices: vec!["cpu0".into()],
        apps: vec!["doorcam".into()],
        in_flight: 3,
        invocations: 1_000_000,
        offers: Offers { devices: Devices::CPU, ..Offers::default() },
        http: "http://10.0.0.1:8080".into(),
        former: vec![],
        servers: vec![],
        heard_ms_ago: 250,
        children: vec![],
        left_out: 0,
    }
}

/// A site of so many children, which have so many each.
fn tree(children: usize, grandchildren: usize) -> Brief {
    let mut root = brief("cloud.east".parse().expect("a path"));
    let below = |site: &TierPath, count: usize| {
        let child = |at| brief(site.child(&format!("c{at}")).expect("a path"));
        (0..count).map(child).collect::<Vec<_>>()
    };
    root.children = below(&root.path, children);
    for child in &mut root.children {
        child.children = below(&child.path, grandchildren);
    }
    root
}

fn is_listed(brief: &Brief, path: &str) -> bool {
    brief.below().iter().any(|site| site.path.as_str() == path)
}

#[test]
fn a_heartbeat_of_two_thousand_sites_fits_and_tells_of_what_is_rare() {
    const BYTES_MAX: usize = 128 << 10;
    let mut east = tree(1_000, 1);
    let rare = "cloud.east.c998.c0";
    for child in &mut east.children {
        child.offers.devices = Devices::CPU.with(Devices::GPU);
    }
    east.children[998].children[0].offers.devices = Devices::CPU.with(Devices::FPGA);
    let moved = "cloud.east.c999";
    east.children[999].former = vec!["cloud.west.c999".parse().expect("a path")];
    assert!(json_bytes(&east) > 512 << 10, "{}", json_bytes(&east));
    east.cut(BYTES_MAX);
    let (listed, bytes) = (east.below().len(), json_bytes(&east));
    println!("{listed} of 2000 sites in {bytes} bytes");
    assert!(bytes <= BYTES_MAX && bytes > BYTES_MAX * 3 / 4, "{bytes}");
    assert_eq!(east.size(), 2_001);
    assert!(is_listed(&east, rare) && is_listed(&east, moved) && is_listed(&east, "cloud.east.c0"));
    // What is cut once more on its way up is counted still.
    let mut cloud = Brief { children: vec![east], ..brief("cloud".parse().expect("a path")) };
    cloud.cut(4 << 10);
    assert_eq!(cloud.size(), 2_002);
    assert!(json_bytes(&cloud) <= 4 << 10 && is_listed(&cloud, rare));
    let alone = cloud.alone();
    assert_eq!((alone.size(), alone.below().len()), (2_002, 0));
}

#[test]
fn of_many_apps_some_are_named() {
    for (apps, named) in [(0, 0), (3, 3), (4, 4), (4_096, 4)] {
        let mut site = tree(0, 0);
        site.apps = (0..apps).map(|at| format!("app-{at}")).collect();
        site.name_apps(3);
        assert_eq!(site.apps.len(), named, "{apps}");
        assert!(apps <= 3 || site.apps[3] == format!("and {} more", apps - 3), "{:?}", site.apps);
    }
}

#[test]
fn a_site_is_found_by_its_path() {
    let mut east = tree(3, 2);
    for (path, is_there) in [("cloud.east", true), ("cloud.east.c2.c1", true), ("cloud.x", false)] {
        let path: TierPath = path.parse().expect("a path");
        let found = east.at_mut(&path).map(|site| site.path.clone());
        assert_eq!(found, is_there.then_some(path));
    }
}

proptest! {
    /// No site is lost from the count, what is listed is a tree, and what fits is not cut.
    #[test]
    fn what_is_left_out_is_counted(
        children in 0usize..12,
        grandchildren in 0usize..6,
        rare in proptest::collection::vec((0usize..12, 0usize..6), 0..4),
        bytes_max in 0usize..40_000,
    ) {
        let mut whole = tree(children, grandchildren);
        for (child, grandchild) in rare {
            if let Some(site) = whole.children.get_mut(child)
                .and_then(|child| child.children.get_mut(grandchild))
            {
                site.offers.devices = Devices::CPU.with(Devices::FPGA);
            }
        }
        let mut cut = whole.clone();
        cut.cut(bytes_max);
        prop_assert_eq!(cut.size(), whole.size());
        prop_assert!(cut.is_tree());
        let bytes = json_bytes(&cut);
        prop_assert!(bytes <= bytes_max || cut.children.is_empty(), "{} of {}", bytes, bytes_max);
        if json_bytes(&whole) <= bytes_max {
            prop_assert_eq!(cut.below().len(), whole.below().len());
        }
        // A site without what is rare is listed only when all are that have it.
        let is_rare = |site: &&Brief| !Devices::CPU.covers(site.offers.devices);
        let count = |brief: &Brief| brief.below().into_iter().filter(is_rare).count();
        let is_plain = |site: &&Brief| !is_rare(site) && count(site) == 0;
        let plain = whole.below().into_iter().filter(is_plain).map(|site| &site.path);
        let plain = plain.collect::<BTreeSet<_>>();
        let names_plain = cut.below().iter().any(|site| plain.contains(&site.path));
        prop_assert!(!names_plain || count(&cut) == count(&whole));
    }
}
