use std::os::unix::fs::PermissionsExt;

use super::*;

const NOW: u64 = 1_000_000;

fn record(site: &str) -> Record {
    let site: TierPath = site.parse().expect(site);
    let class = site.default_class();
    Record::new(site, class, LOOPBACK.to_owned(), Ports::USUAL)
}

fn join(parent: &mut SiteFolder, child: &mut SiteFolder) {
    let name = child.record.site.name().to_owned();
    let class = child.record.class;
    let token = parent.invite(&name, class, "127.0.0.1:1", NOW, NOW + 60).expect("a token");
    let answer = parent.admit(&child.request(&token).expect("a request"), NOW).expect("admitted");
    child.adopt(&answer).expect("adopted");
}

#[test]
fn a_folder_says_all_there_is_and_its_owner_alone_reads_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (up, down) = (folder.path().join("up"), folder.path().join("down"));
    let mut cloud = SiteFolder::create(&up, record("cloud")).expect("a root");
    let mut east = SiteFolder::create(&down, record("cloud.east")).expect("a site");
    join(&mut cloud, &mut east);
    for (folder, dir) in [(&cloud, &up), (&east, &down)] {
        let read = SiteFolder::open(dir).expect("the folder");
        assert_eq!((&read.record, read.roster()), (&folder.record, folder.roster()));
        for entry in std::fs::read_dir(dir).expect("the folder") {
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("a file").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.path());
        }
    }
    let error = SiteFolder::create(&up, record("other")).err().expect("refused").to_string();
    assert!(error.contains("holds the site cloud already"), "{error}");
    let error = SiteFolder::open(folder.path()).err().expect("refused").to_string();
    assert!(error.contains("holds no site"), "{error}");
}

#[test]
fn what_is_the_same_everywhere_is_written_the_same_everywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let create = |site: &str| SiteFolder::create(&folder.path().join(site), record(site));
    let mut cloud = create("cloud").expect("a root");
    let mut sites: Vec<SiteFolder> = vec![];
    for name in ["cloud.east", "cloud.west"] {
        let mut site = create(name).expect(name);
        join(&mut cloud, &mut site);
        sites.push(site);
    }
    let text = |site: &SiteFolder| std::fs::read_to_string(site.file(SERVER_FILE)).expect("text");
    let texts: Vec<String> = [&cloud].into_iter().chain(&sites).map(text).collect();
    for same in ["max_payload: 589824", "ping_interval: \"5s\"", "ping_max: 2"] {
        assert!(texts.iter().all(|text| text.contains(same)), "{same}");
    }
    for (site, text) in sites.iter().zip(&texts[1..]) {
        assert!(text.contains("cluster { name: \"kids-cloud\" }"), "{text}");
        assert!(text.contains("deny_exports: [\"local.>\", \"_INBOX.>\"]"), "{text}");
        let link = site.key("link.nk").expect("a key");
        assert!(texts[0].contains(&link.public) && !texts[0].contains(&link.seed));
    }
    cloud.remove_child("east").expect("removed");
    let link = sites[0].key("link.nk").expect("a key").public;
    assert!(!text(&cloud).contains(&link), "a removed child is still let in");
}

#[test]
fn a_site_that_moves_gets_new_keys_and_keeps_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let create = |site: &str| SiteFolder::create(&folder.path().join(site), record(site));
    let (mut east, mut west) = (create("c.east").expect("east"), create("c.west").expect("west"));
    let mut cell = create("c.east.cell").expect("cell");
    join(&mut east, &mut cell);
    let (link, node) = (cell.link_key().expect("a key"), cell.key("node.nk").expect("a key"));

    let token = west.invite("cell", TierClass::Edge, "127.0.0.1:1", NOW, NOW + 60).expect("token");
    cell.check_move(&token).expect("it may move");
    let answer = west.admit(&cell.request(&token).expect("a request"), NOW).expect("admitted");
    // Until the answer is taken, the site is where it was.
    let there = SiteFolder::open(cell.dir()).expect("the folder");
    assert_eq!(there.record.site.as_str(), "c.east.cell");
    assert_eq!(there.link_key().expect("a key").public, link.public);
    cell.adopt(&answer).expect("adopted");
    let there = SiteFolder::open(cell.dir()).expect("the folder");
    assert_eq!(there.record.site.as_str(), "c.west.cell");
    assert_eq!(
        there.record.former.iter().map(TierPath::as_str).collect::<Vec<_>>(),
        ["c.east.cell"]
    );
    assert_ne!(there.link_key().expect("a key").public, link.public);
    assert_eq!(there.key("node.nk").expect("a key").public, node.public);

    let error = east.check_move(&token).expect_err("no parent").to_string();
    assert!(error.contains("has no parent"), "{error}");
    let elsewhere = Token { site: "other.cell".parse().expect("a path"), ..token };
    let error = there.check_move(&elsewhere).expect_err("another tree").to_string();
    assert!(error.contains("belongs to the tree of c"), "{error}");
    let below = Token { site: "c.west.cell.cell".parse().expect("a path"), ..elsewhere };
    let error = there.check_move(&below).expect_err("below itself").to_string();
    assert!(error.contains("would be below itself"), "{error}");
}

#[test]
fn what_is_below_a_site_that_moves_follows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let create = |site: &str| SiteFolder::create(&folder.path().join(site), record(site));
    let (mut east, mut west) = (create("c.east").expect("east"), create("c.west").expect("west"));
    let (mut mid, mut cell) = (create("c.east.mid").expect("mid"), create("x.y").expect("cell"));
    join(&mut east, &mut mid);
    cell.record.site = "c.east.mid.cell".parse().expect("a path");
    join(&mut mid, &mut cell);
    for folder in [&mut east, &mut mid] {
        folder.add_tenant("acme").expect("a tenant");
    }
    let link = cell.link_key().expect("a key").public;

    let token = west.invite("mid", TierClass::Edge, "127.0.0.1:1", NOW, NOW + 60).expect("token");
    mid.check_move(&token).expect("it may move");
    let request = mid.request(&token).expect("a request");
    let error = west.admit(&request, NOW).expect_err("a tenant it lacks").to_string();
    assert!(error.contains("c.west has no tenant \"acme\"; add it there first"), "{error}");
    west.add_tenant("acme").expect("a tenant");
    mid.adopt(&west.admit(&request, NOW).expect("admitted")).expect("adopted");
    let acme = mid.tenant_link("acme").expect("a key");
    assert_eq!(west.tenants().links("acme").collect::<Vec<_>>(), [("mid", acme.as_str())]);

    // The child is still elsewhere: it may hear there where its parent is, and nothing else.
    let text = std::fs::read_to_string(mid.file(SERVER_FILE)).expect("text");
    assert!(text.contains("\"ctl.c.east.mid.cell._.>\"]") && text.contains(&link), "{text}");
    assert!(!text.contains("call.c.east.mid.cell"), "{text}");
    let places = mid.former_places(&"c.west.mid.cell".parse().expect("a path"));
    assert_eq!(places.iter().map(TierPath::as_str).collect::<Vec<_>>(), ["c.east.mid.cell"]);

    for wrong in ["c.west.mid.other", "d.west.mid.cell"] {
        let error = cell.follow(&wrong.parse().expect("a path")).expect_err(wrong).to_string();
        assert!(error.contains("is no other place of the same site"), "{error}");
    }
    cell.follow(&"c.west.mid.cell".parse().expect("a path")).expect("it follows");
    let mut there = SiteFolder::open(cell.dir()).expect("the folder");
    assert_eq!(there.record.site.as_str(), "c.west.mid.cell");
    assert_eq!(there.link_key().expect("a key").public, link, "its link is the same");
    // Its own next move gets a new key.
    let token = east.invite("cell", TierClass::Edge, "127.0.0.1:1", NOW, NOW + 60).expect("token");
    there
        .adopt(&east.admit(&there.request(&token).expect("a request"), NOW).expect("admitted"))
        .expect("adopted");
    assert_ne!(there.link_key().expect("a key").public, link);
    assert_eq!(there.record.former.len(), 2);
}

#[test]
fn who_changes_the_roster_does_not_undo_a_move() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut site = SiteFolder::create(folder.path(), record("c.east")).expect("a site");
    let mut stale = SiteFolder::open(folder.path()).expect("the folder");
    site.follow(&"c.north.east".parse().expect("a path")).expect("it follows");
    stale.add_tenant("acme").expect("a tenant");
    let there = SiteFolder::open(folder.path()).expect("the folder");
    assert_eq!(there.record.site.as_str(), "c.north.east");
    assert!(there.tenants().has("acme"));
}

#[test]
fn a_rotation_gives_mqtt_clients_another_name_and_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut record = record("c");
    record.ports = Ports::USUAL;
    let mut site = SiteFolder::create(folder.path(), record).expect("a site");
    site.add_tenant("acme").expect("a tenant");
    for tenant in ["acme", ACCOUNT] {
        let password = || {
            let file = site.tenant_file(tenant, MQTT_FILE);
            std::fs::read_to_string(file).expect("a password").trim().to_owned()
        };
        let before = password();
        let text = || std::fs::read_to_string(site.file(SERVER_FILE)).expect("text");
        let may = |rotations, password: &str| {
            let user = crate::tree::mqtt_user(tenant, rotations);
            text().contains(&format!("{{ user: \"{user}\", password: \"{password}\"\n"))
        };
        assert!(may(0, &before) && !may(1, &before));
        let mut again = SiteFolder::open(folder.path()).expect("the folder");
        again.rotate_tenant(tenant, NOW, NOW + 60).expect("rotated");
        // Each password under the name that it came with.
        let after = password();
        assert!(after != before && may(0, &before) && may(1, &after));
        assert_eq!(again.mqtt_user(tenant), crate::tree::mqtt_user(tenant, 1));
        let former = site.tenant_file(tenant, "mqtt.0.nk");
        assert!(former.is_file());
        assert!(again.expire_keys(NOW + 60).expect("expired") && !former.exists());
        assert!(!text().contains(&before) && may(1, &after));
        // Without grace the old one ends at once.
        again.rotate_tenant(tenant, NOW + 60, NOW + 60).expect("rotated");
        assert!(!text().contains(&after) && may(2, &password()));
    }
}

#[test]
fn three_servers_differ_in_names_ports_and_places_and_in_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cloud = SiteFolder::create(&folder.path().join("up"), record("cloud")).expect("a root");
    let mut three = record("cloud.east");
    three.peers = [2, 3]
        .map(|number| Peer { address: LOOPBACK.to_owned(), ports: three.ports.of_server(number) })
        .to_vec();
    let mut east = SiteFolder::create(&folder.path().join("down"), three.clone()).expect("a site");
    join(&mut cloud, &mut east);
    let texts: Vec<String> = east
        .places()
        .iter()
        .map(|place| std::fs::read_to_string(&place.config).expect("text"))
        .collect();
    assert_eq!(texts.len(), 3);
    for (at, text) in texts.iter().enumerate() {
        assert!(text.contains(&format!("server_name: \"cloud-east_{}\"", at + 1)), "{text}");
        assert!(text.contains("cluster { name: \"kids-cloud\", no_advertise: true"), "{text}");
        assert!(text.contains(&format!("listen: \"127.0.0.1:{}\"", 6222 + 10 * at)), "{text}");
        assert!(text.contains("domain: \"cloud-east\""), "{text}");
        assert_eq!(text.matches("nats://127.0.0.1:62").count(), 2, "{text}");
    }
    let differing = |a: &str, b: &str| a.lines().zip(b.lines()).filter(|(a, b)| a != b).count();
    assert!(differing(&texts[0], &texts[1]) <= 9, "{}", differing(&texts[0], &texts[1]));
    assert_eq!(east.server_url().split(',').count(), 3);
    // Who signs children opens no route.
    let routes = std::fs::read_to_string(east.file("servers.pem")).expect("an authority");
    assert_ne!(routes, std::fs::read_to_string(east.file("authority.pem")).expect("another"));

    // A move changes where the site is, and what its servers are called among themselves not.
    east.follow(&"cloud.north.east".parse().expect("a path")).expect("it follows");
    let text = std::fs::read_to_string(&east.places()[1].config).expect("text");
    assert!(text.contains("server_name: \"cloud-east_2\""), "{text}");
    assert!(text.contains("cluster { name: \"kids-cloud-north\""), "{text}");

    three.peers.pop();
    let error = SiteFolder::create(&folder.path().join("two"), three).err().expect("refused");
    assert!(error.to_string().contains("of two, neither goes on alone"), "{error}");
}

#[test]
fn streams_are_counted_where_the_fewest_lie() {
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = SiteFolder::create(&folder.path().join("up"), record("cloud")).expect("a root");
    assert_eq!(cloud.streams_stored("tenant"), 0);
    for (store, streams) in [("jetstream", 3), ("jetstream-2", 2)] {
        for number in 0..streams {
            let stream = format!("{store}/jetstream/tenant/streams/S{number}");
            std::fs::create_dir_all(cloud.file(&stream)).expect(store);
        }
    }
    assert_eq!((cloud.streams_stored("tenant"), cloud.streams_stored("shop")), (2, 0));
}
