use super::*;
use crate::pki::UserKey;

const NOW: u64 = 1_000_000;

fn public() -> String {
    UserKey::generate().expect("a key").public
}

fn with(names: &[&str]) -> Tenants {
    let mut tenants = Tenants::default();
    names.iter().for_each(|name| tenants.add(name).expect(name));
    tenants
}

#[track_caller]
fn refused(result: Result<(), Error>, why: &str) {
    let text = result.expect_err(why).to_string();
    assert!(text.contains(why), "{text}");
}

#[test]
fn tenants_come_and_go_and_the_owner_stays() {
    let mut tenants = with(&["acme", "b-2"]);
    assert_eq!(tenants.names().collect::<Vec<_>>(), ["acme", "b-2"]);
    refused(tenants.add("acme"), "already");
    for bad in ["", "Acme", "a.b", "a b", ">", "*", ACCOUNT, &"a".repeat(33), "a\" } SYS {"] {
        refused(tenants.add(bad), "a tenant's name is");
    }
    refused(tenants.remove("ghost"), "no tenant \"ghost\"; there are tenant, acme");
    refused(tenants.remove(ACCOUNT), "owns the site");
    tenants.remove("acme").expect("it was there");
    assert!(!tenants.has("acme") && tenants.has(ACCOUNT));
    for n in tenants.names().count()..TENANTS_MAX {
        tenants.add(&format!("t{n}")).expect("there is room");
    }
    refused(tenants.add("one-more"), "at most 16");
}

#[test]
fn an_old_key_is_good_for_as_long_as_was_said() {
    let mut tenants = with(&["acme"]);
    for name in ["acme", ACCOUNT] {
        tenants.rotate(name, "OLD", NOW, NOW + 60).expect("rotated");
        let former = Former { public: "OLD".into(), until_s: NOW + 60, mqtt: Some(0) };
        assert_eq!((tenants.former(name), tenants.rotations(name)), (&[former][..], 1));
    }
    assert!(tenants.expire(NOW + 59).is_empty());
    let expired = tenants.expire(NOW + 60);
    let expired = expired.iter().map(|(name, former)| (name.as_str(), former.mqtt));
    assert_eq!(expired.collect::<Vec<_>>(), [("acme", Some(0)), (ACCOUNT, Some(0))]);
    assert!(tenants.former("acme").is_empty() && tenants.former(ACCOUNT).is_empty());
    // No grace: the old key is refused at once.
    tenants.rotate("acme", "OLD", NOW, NOW).expect("rotated");
    assert!(tenants.former("acme").is_empty());
    assert_eq!(tenants.rotations("acme"), 2);
    refused(tenants.rotate("acme", "OLD", NOW, NOW + GRACE_S_MAX + 1), "good for 30 days at most");
    refused(tenants.rotate("ghost", "OLD", NOW, NOW), "no tenant");
    for n in 0..FORMER_MAX {
        tenants.rotate("acme", &format!("OLD{n}"), NOW, NOW + 10).expect("there is room");
    }
    refused(tenants.rotate("acme", "OLD", NOW, NOW + 10), "still good");
    tenants.rotate("acme", "OLD", NOW + 10, NOW + 20).expect("the others have expired");
}

#[test]
fn a_child_links_up_for_tenants_of_its_parent_with_keys_of_its_own() {
    let mut tenants = with(&["acme", "bolt"]);
    let (a, b): (TierPath, TierPath) = ("cloud.a".parse().unwrap(), "cloud.b".parse().unwrap());
    let (key, other) = (public(), public());
    let request = |tenant: &str, link: Option<&str>| LinkRequest {
        tenant: tenant.into(),
        link: link.map(str::to_owned),
    };
    tenants.link(&a, &request("acme", Some(&key))).expect("linked");
    tenants.link(&a, &request("acme", Some(&key))).expect("asked again, answered the same");
    assert_eq!(tenants.links("acme").collect::<Vec<_>>(), [("a", key.as_str())]);
    assert_eq!(tenants.links("bolt").count(), 0);
    refused(tenants.link(&b, &request("acme", Some(&key))), "another's");
    refused(tenants.link(&a, &request("bolt", Some(&key))), "another's");
    refused(tenants.link(&a, &request("ghost", Some(&other))), "edgescale --at cloud tenant add");
    refused(tenants.link(&a, &request(ACCOUNT, Some(&other))), "has no tenant");
    refused(tenants.link(&a, &request("acme", Some("U } SYS {"))), "no public nkey");
    tenants.link(&a, &request("acme", Some(&other))).expect("a new key takes the old one's place");
    assert_eq!(tenants.links("acme").collect::<Vec<_>>(), [("a", other.as_str())]);
    tenants.link(&b, &request("acme", Some(&key))).expect("linked");
    tenants.link(&b, &request("acme", None)).expect("unlinked");
    tenants.forget_child("a");
    assert_eq!(tenants.links("acme").count(), 0);
}
