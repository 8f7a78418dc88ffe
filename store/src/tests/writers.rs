//! Two writers of one place, in every order of their requests: whoever was told that his manifest
//! counts is the newest, and everything that he lists is there.

use std::collections::BTreeSet;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::orders::requests::Stepped;
use super::orders::{Choices, each_order};
use super::*;
use crate::manifest::{self, Manifest};
use crate::objects::Created;
use crate::runtime::seeded::in_order;

const PLACE: &str = "t/stats/all";

/// What both stand on.
struct Place {
    stepped: Stepped,
    /// For the writers.
    objects: Objects,
    /// For who looks on: no request waits.
    seen: Objects,
}

impl Place {
    fn new() -> Place {
        let stepped = Stepped::default();
        let seen = Objects::shared(stepped.inner.clone());
        Place { objects: Objects::shared(Arc::new(stepped.clone())), seen, stepped }
    }

    /// Never waits.
    fn now<T>(&self, looking: impl Future<Output = T>) -> T {
        looking.now_or_never().expect("it is in memory")
    }

    fn newest(&self) -> Manifest {
        let mut listed = self.now(manifest::newest(&self.seen)).unwrap();
        listed.found.pop().expect("a partition").manifest
    }

    /// Everything that the newest manifest lists is there.
    fn check_listed(&self) {
        let names = self.now(self.seen.list("t")).unwrap();
        for segment in self.newest().segments {
            assert!(names.contains(&segment.name), "{} is gone; left {names:?}", segment.name);
        }
    }
}

/// One that writes manifest after manifest, each with a segment of its own.
struct Writer<'a> {
    name: &'static str,
    place: &'a Place,
    known: Manifest,
    /// What it was told of its last manifest.
    told: Option<Result<()>>,
}

impl<'a> Writer<'a> {
    fn new(name: &'static str, place: &'a Place, known: &Manifest) -> Self {
        Writer { name, place, known: known.clone(), told: None }
    }

    async fn flush(&mut self) {
        let segment = format!("{PLACE}/s/{:016x}-{}.parquet", self.known.number + 1, self.name);
        let created = self.place.objects.create(&segment, "x".into()).await.unwrap();
        assert_eq!(created, Created::New);
        let mut next = Manifest { number: self.known.number + 1, ..self.known.clone() };
        next.writer = self.name.into();
        next.segments = vec![listed(&segment)];
        let told = next.commit(&self.place.objects).await;
        if told.is_ok() {
            assert_eq!(self.place.newest(), next, "{} was told that it counts", self.name);
            next.tidy(&self.place.objects, true).await;
            self.known = next;
        }
        self.told = Some(told);
    }

    /// Ends like one whose store goes on, or learns that there is another.
    fn check(&self) {
        if let Some(Ok(())) = &self.told {
            assert_eq!(self.place.newest(), self.known, "{} goes on", self.name);
        }
    }
}

fn listed(name: &str) -> crate::segment::SegmentMeta {
    let json = serde_json::json!({"name": name, "rows": 1, "bytes": 1, "crc32c": 0,
        "min_key": "", "max_key": "", "max_seq": 1});
    serde_json::from_value(json).unwrap()
}

fn first() -> Manifest {
    Manifest {
        format: manifest::FORMAT,
        number: 1,
        writer: "first".into(),
        spec: stats(),
        partition: String::new(),
        segments: vec![],
        forgotten_seq: 0,
    }
}

/// Two writers with so many flushes each; what becomes of them, over all orders.
fn check(flushes: [usize; 2]) -> BTreeSet<[bool; 2]> {
    let mut endings = BTreeSet::new();
    let orders = each_order(|choices: &mut Choices<'_>| {
        let place = Place::new();
        place.now(first().commit(&place.seen)).unwrap();
        let mut writers = ["one", "two"].map(|name| Writer::new(name, &place, &first()));
        let tasks: Vec<BoxFuture<'_, ()>> = writers
            .iter_mut()
            .zip(flushes)
            .map(|(writer, flushes)| {
                let flushing = async move {
                    for _ in 0..flushes {
                        writer.flush().await;
                        if matches!(writer.told, Some(Err(_))) {
                            break;
                        }
                    }
                };
                flushing.boxed()
            })
            .collect();
        in_order(choices, place.stepped.beside(tasks));
        place.check_listed();
        writers.iter().for_each(Writer::check);
        endings.insert(writers.each_ref().map(|writer| matches!(writer.told, Some(Ok(())))));
    });
    println!("{orders} orders of {flushes:?} flushes");
    assert!(orders > 100, "only {orders} orders");
    endings
}

#[test]
fn of_two_writers_one_is_told() {
    let endings = check([1, 2]);
    assert_eq!(endings, BTreeSet::from([[false, true], [true, false]]));
}

/// A writer that slept while the other went so far that its number was removed and is free again.
#[test]
fn a_writer_whose_number_was_removed_is_told() {
    let endings = check([1, 4]);
    assert_eq!(endings, BTreeSet::from([[false, true], [true, false]]));
}

/// A store is opened on a copy of the disk while the first one flushes. What is left over may be
/// what the first one is about to list.
#[test]
fn who_opens_takes_nothing_away_from_who_flushes() {
    let mut endings = BTreeSet::new();
    let orders = each_order(|choices| {
        endings.insert(in_order(choices, opens_while_another_flushes()));
    });
    println!("{orders} orders, {endings:?}");
    assert!(orders > 50 && endings.len() > 1, "{orders} orders, {endings:?}");
}

/// Whether either was told that it has done so.
async fn opens_while_another_flushes() -> (bool, bool) {
    let place = Place::new();
    let machine = Machine { objects: place.objects.clone(), ..Machine::new(7) };
    let config = || Config::new("", "cloud");
    let store = machine.open(config()).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    store.put("stats", &[row! {"k": 1, "a": 1}]).await.unwrap();
    store.flush().await.unwrap();
    store.close().await;
    let store = machine.open(config()).await.unwrap();
    store.put("stats", &[row! {"k": 2, "a": 2}]).await.unwrap();
    let left = format!("{PLACE}/s/left-by-a-crash.parquet");
    place.seen.create(&left, "x".into()).await.unwrap();
    let copy = Machine { disk: MemDisk::default(), ..machine.clone() };
    let (mut flushed, mut opened) = (false, false);
    let flushing = async { flushed = store.flush().await.is_ok() };
    let opening = async { opened = copy.open(config()).await.is_ok() };
    place.stepped.beside(vec![flushing.boxed(), opening.boxed()]).await;
    place.check_listed();
    let later = Machine { disk: MemDisk::default(), ..machine.clone() };
    let later = later.open(config()).await.unwrap();
    let rows = later.scan("stats", Scan::default()).await.unwrap().rows.len();
    assert!(rows == 2 || !flushed && rows == 1, "{rows} rows, flushed: {flushed}");
    (flushed, opened)
}
