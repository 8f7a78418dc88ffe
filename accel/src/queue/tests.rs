use super::*;

fn rank(priority: u8, tenant: &str, deadline_us: u64) -> Rank {
    Rank { priority, tenant: tenant.to_string(), deadline_us }
}

fn push(queue: &mut Queue<u32>, rank: Rank, entry: u32) {
    assert_eq!(queue.push(rank, entry), Ok(()));
}

fn drain(queue: &mut Queue<u32>) -> Vec<u32> {
    std::iter::from_fn(|| queue.pop()).collect()
}

#[test]
fn priority_then_deadline_then_arrival() {
    let mut queue = Queue::default();
    push(&mut queue, rank(0, "a", u64::MAX), 1);
    push(&mut queue, rank(0, "a", 50), 2);
    push(&mut queue, rank(9, "a", u64::MAX), 3);
    push(&mut queue, rank(0, "a", u64::MAX), 4);
    push(&mut queue, rank(0, "a", 40), 5);
    assert_eq!(drain(&mut queue), [3, 5, 2, 1, 4]);
    assert_eq!(queue.pop(), None);
}

#[test]
fn tenants_take_turns_by_the_time_they_had() {
    let mut queue = Queue::default();
    (0..4).for_each(|n| push(&mut queue, rank(0, "greedy", u64::MAX), n));
    assert_eq!(queue.pop(), Some(0));
    queue.charge("greedy", 100);
    push(&mut queue, rank(0, "modest", u64::MAX), 10);
    push(&mut queue, rank(0, "modest", u64::MAX), 11);
    assert_eq!(queue.pop(), Some(1), "who comes starts level with who waits");
    queue.charge("greedy", 100);
    assert_eq!(queue.pop(), Some(10));
    queue.charge("modest", 150);
    assert_eq!(queue.pop(), Some(2));
}

#[test]
fn a_full_queue_gives_back() {
    let mut queue = Queue::default();
    (0..QUEUE_LEN_MAX as u32).for_each(|n| push(&mut queue, rank(0, "a", n.into()), n));
    assert_eq!((queue.len(), queue.room()), (QUEUE_LEN_MAX, 0));
    assert_eq!(queue.push(rank(9, "b", 0), 99), Err(99));
    assert_eq!(queue.pop(), Some(0));
    push(&mut queue, rank(9, "b", 0), 99);
}

#[test]
fn remembered_tenants_are_bounded() {
    let mut queue = Queue::default();
    for n in 0..3 * TENANTS_MAX as u32 {
        push(&mut queue, rank(0, &format!("tenant-{n}"), 0), n);
        queue.pop();
    }
    assert!(queue.served_us.len() <= TENANTS_MAX);
}

/// Tenants that always have jobs waiting, long or short ones, many or few: each gets as much device
/// time as the others, by Jain's index (1984), which is 1 where all are equal.
#[test]
fn device_time_is_shared_evenly() {
    let tenants =
        [("long", 9_000, 2), ("short", 300, 20), ("middling", 2_400, 6), ("rare", 800, 1)];
    let mut queue = Queue::default();
    let (mut had_us, mut waiting) = ([0u64; 4], [0usize; 4]);
    for turn in 0..4000 {
        for (number, (name, _, jobs)) in tenants.iter().enumerate() {
            while waiting[number] < *jobs {
                push(&mut queue, rank(0, name, u64::MAX), number as u32);
                waiting[number] += 1;
            }
        }
        let number = queue.pop().expect("all have jobs waiting") as usize;
        let (name, cost_us, _) = tenants[number];
        // Costs are never quite alike.
        let took_us = cost_us * (85 + turn % 31) / 100;
        queue.charge(name, took_us);
        (waiting[number], had_us[number]) = (waiting[number] - 1, had_us[number] + took_us);
    }
    let shares = had_us.map(|us| us as f64);
    let index = shares.iter().sum::<f64>().powi(2)
        / (4.0 * shares.iter().map(|share| share * share).sum::<f64>());
    println!("Jain's index {index:.4} of {had_us:?}");
    assert!(index >= 0.95, "{index} of {had_us:?}");
}

#[test]
fn entries_are_taken_by_their_places() {
    let mut queue = Queue::default();
    let ranks = [rank(0, "a", 50), rank(0, "a", 40), rank(9, "a", u64::MAX), rank(0, "a", 60)];
    (0..).zip(ranks).for_each(|(n, rank)| push(&mut queue, rank, n));
    assert_eq!(queue.ordered(), [(2, &2), (1, &1), (0, &0), (3, &3)]);
    assert_eq!(queue.take(&[2, 0, 9]), [2, 0]);
    assert_eq!(queue.ordered(), [(0, &1), (1, &3)]);
    assert_eq!(drain(&mut queue), [1, 3]);
}
