use super::*;
use crate::columns::Columns;
use crate::run::Run;
use crate::schema::Schema;
use crate::segment;
use crate::tests::stats;

fn segment(schema: &Arc<Schema>, k: u8) -> Arc<Segment> {
    let key = [0x80, 0, 0, 0, 0, 0, 0, k];
    let row = Default::default();
    let run = Arc::new(Run::of_rows(schema, [(&key[..], &row)].into_iter()).unwrap());
    let (meta, _) = segment::encode(format!("segment {k}"), &run).unwrap();
    Arc::new(Segment::listed(meta, Some(run)).unwrap())
}

#[test]
fn who_is_looked_at_stays_and_others_go_in_turn() {
    let schema = Arc::new(Schema::new(stats()));
    let mut cache = Cache::default();
    let all: Vec<Arc<Segment>> = (0..6).map(|k| segment(&schema, k)).collect();
    let room = all[0].weight() * 3 + 1;
    let kept = |all: &[Arc<Segment>]| -> Vec<usize> {
        (0..all.len()).filter(|i| all[*i].weight() > 0).collect()
    };
    for segment in &all[..3] {
        cache.keep(segment, room);
        segment.was_used();
    }
    assert!(all[0].in_memory(&schema, &Columns::All).is_some());
    cache.keep(&all[3], room);
    assert_eq!(kept(&all[..4]), [0, 2, 3], "the first was looked at, the second goes");
    cache.keep(&all[3], room);
    assert_eq!(kept(&all[..4]), [0, 2, 3], "once is enough");
    cache.keep(&all[4], 0);
    assert_eq!(kept(&all[..5]).len(), 1, "one always stays");
    drop(all);
    let alone = segment(&schema, 9);
    cache.keep(&alone, room);
    assert_eq!(cache.turns.len(), 1, "what is merged away is forgotten");
}
