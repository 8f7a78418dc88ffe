//! Every order in which several parties can take their steps, one after the other. What a test says
//! of one order may hold by luck. The parties are threads ([`threads`]), or tasks whose steps are
//! their requests for objects ([`crate::runtime::seeded::in_order`]).

use super::Dice;

pub mod requests;
pub mod threads;

/// Which of several things is done next, in one order of all.
pub struct Choices<'d> {
    /// What was chosen, and of how many.
    made: Vec<(usize, usize)>,
    at: usize,
    /// What has not been chosen yet is, at random; otherwise the first.
    dice: Option<&'d mut Dice>,
}

impl Choices<'_> {
    /// One of `of`.
    pub fn one(&mut self, of: usize) -> usize {
        if self.at == self.made.len() {
            let chosen = self.dice.as_mut().map_or(0, |dice| dice.below(of as u64) as usize);
            self.made.push((chosen, of));
        }
        let (chosen, before) = self.made[self.at];
        assert_eq!(before, of, "the same order is the same again");
        self.at += 1;
        chosen
    }
}

/// Carries out `case` in every order; returns how many there are.
pub fn each_order(mut case: impl FnMut(&mut Choices<'_>)) -> u64 {
    let mut choices = Choices { made: Vec::new(), at: 0, dice: None };
    for orders in 1.. {
        choices.at = 0;
        case(&mut choices);
        choices.made.truncate(choices.at);
        while choices.made.pop_if(|(chosen, of)| *chosen + 1 == *of).is_some() {}
        match choices.made.last_mut() {
            Some((chosen, _)) => *chosen += 1,
            None => return orders,
        }
    }
    unreachable!("there is an end to it")
}

/// Carries out `case` in so many orders, drawn at random: where all of them are too many.
pub fn some_orders(count: u64, mut case: impl FnMut(&mut Choices<'_>)) {
    let seed = crate::entropy() | 1;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    for _ in 0..count {
        case(&mut Choices { made: Vec::new(), at: 0, dice: Some(&mut dice) });
    }
}

#[test]
fn each_order_comes_once() {
    let mut seen = std::collections::BTreeSet::new();
    let orders = each_order(|choices| {
        let (mut left, mut order) = (vec![2, 3], String::new());
        while left.iter().any(|steps| *steps > 0) {
            let ready: Vec<usize> = (0..2).filter(|i| left[*i] > 0).collect();
            let next = ready[choices.one(ready.len())];
            left[next] -= 1;
            order += ["a", "b"][next];
        }
        assert!(seen.insert(order));
    });
    assert_eq!((orders, seen.len()), (10, 10), "5 over 2");
}
