use super::super::join::{JoinRequest, Token};
use super::*;
use crate::pki::{LinkKey, UserKey};

const NOW: u64 = 1_000_000;
const LATER: u64 = NOW + 600;

/// A child that has not joined yet.
struct Child {
    link: UserKey,
    tls: LinkKey,
}

impl Child {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = LinkKey::load_or_generate(&folder.path().join("link.key")).expect("a key");
        Self { link: UserKey::generate().expect("a key"), tls }
    }

    fn request(&self, invite: &UserKey) -> JoinRequest {
        let token = Token {
            site: "cloud.east".parse().expect("a path"),
            class: TierClass::Region,
            join: "127.0.0.1:1".into(),
            authority: String::new(),
            seed: invite.seed.clone(),
            expires_s: LATER,
        };
        JoinRequest::new(&token, &self.link, self.tls.public(), Default::default())
            .expect("a request")
    }
}

fn invited(roster: &mut Roster, name: &str) -> UserKey {
    let key = UserKey::generate().expect("a key");
    roster.invite(name, TierClass::Region, &key.public, NOW, LATER).expect(name);
    key
}

fn refusal(roster: &mut Roster, request: &JoinRequest, now_s: u64) -> String {
    let before = roster.clone();
    let error = roster.admit(request, now_s).expect_err("a refusal").to_string();
    assert_eq!(*roster, before, "a refusal changed something: {error}");
    error
}

#[test]
fn an_invitation_is_for_one_child_and_for_a_time() {
    let mut roster = Roster::default();
    let invite = invited(&mut roster, "east");
    let (first, second) = (Child::new(), Child::new());
    assert!(refusal(&mut roster, &first.request(&invite), LATER).contains("has expired"));
    let admitted = roster.admit(&first.request(&invite), NOW).expect("admitted");
    assert_eq!((admitted.name.as_str(), &admitted.link), ("east", &first.link.public));
    // Its answer may have been lost: the same child may ask again, nobody else.
    assert_eq!(roster.admit(&first.request(&invite), NOW + 1).expect("again"), admitted);
    assert!(refusal(&mut roster, &second.request(&invite), NOW).contains("was used already"));
    assert_eq!(roster.children().count(), 1);
}

#[test]
fn who_was_not_invited_stays_out() {
    let mut roster = Roster::default();
    let invite = invited(&mut roster, "east");
    let child = Child::new();
    let stranger = UserKey::generate().expect("a key");
    assert!(refusal(&mut roster, &child.request(&stranger), NOW).contains("no such invitation"));
    let mut forged = child.request(&stranger);
    forged.invite = invite.public.clone();
    assert!(refusal(&mut roster, &forged, NOW).contains("not signed by the invited"));
    let mut altered = child.request(&invite);
    altered.link = stranger.public.clone();
    assert!(refusal(&mut roster, &altered, NOW).contains("not signed by the invited"));
    altered.link = "UABC\"; } injected".into();
    assert!(refusal(&mut roster, &altered, NOW).contains("no public nkey"));
}

#[test]
fn a_removed_child_cannot_come_back_with_its_token() {
    let mut roster = Roster::default();
    let invite = invited(&mut roster, "east");
    let child = Child::new();
    roster.admit(&child.request(&invite), NOW).expect("admitted");
    roster.remove("east").expect("removed");
    assert!(refusal(&mut roster, &child.request(&invite), NOW).contains("no such invitation"));
    let error = roster.remove("east").expect_err("twice").to_string();
    assert!(error.contains("no child \"east\""), "{error}");
}

#[test]
fn names_and_keys_are_each_used_once() {
    let mut roster = Roster::default();
    let (east, west) = (invited(&mut roster, "east"), invited(&mut roster, "west"));
    let child = Child::new();
    roster.admit(&child.request(&east), NOW).expect("admitted");
    assert!(refusal(&mut roster, &child.request(&west), NOW).contains("another child"));
    let key = UserKey::generate().expect("a key").public;
    for (name, until, why) in [
        ("east", LATER, "there is a child \"east\" already"),
        ("e.x", LATER, "a site's name is"),
        (">", LATER, "a site's name is"),
        ("", LATER, "a site's name is"),
        ("north", NOW, "an invitation is open for"),
        ("north", NOW + INVITE_S_MAX + 1, "an invitation is open for"),
    ] {
        let error = roster.invite(name, TierClass::Edge, &key, NOW, until).expect_err(name);
        assert!(error.to_string().contains(why), "{name}: {error}");
    }
}

#[test]
fn open_invitations_are_limited_and_expired_ones_make_room() {
    let mut roster = Roster::default();
    for at in 0..INVITES_MAX {
        invited(&mut roster, &format!("site-{at}"));
    }
    let key = UserKey::generate().expect("a key").public;
    let one_more = |roster: &mut Roster, now_s| {
        roster.invite("one-more", TierClass::Edge, &key, now_s, now_s + 60)
    };
    assert!(one_more(&mut roster, NOW).is_err());
    assert_eq!(roster.open_until_s(NOW), Some(LATER));
    assert_eq!(roster.open_until_s(LATER), None);
    one_more(&mut roster, LATER).expect("room");
}
