//! Every order in which several parties can take their steps, one after the other. What a test says
//! of one order may hold by luck.

pub mod requests;
pub mod threads;

/// Which of several things is done next, in one order of all.
pub struct Choices {
    /// What was chosen, and of how many.
    made: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    /// One of `of`.
    pub fn one(&mut self, of: usize) -> usize {
        if self.at == self.made.len() {
            self.made.push((0, of));
        }
        let (chosen, before) = &mut self.made[self.at];
        // Where others are late at times, an order is not always the same again.
        *before = of;
        *chosen = (*chosen).min(of - 1);
        self.at += 1;
        *chosen
    }
}

/// Carries out `case` in every order; returns how many there are.
pub fn each_order(mut case: impl FnMut(&mut Choices)) -> u64 {
    let mut choices = Choices { made: Vec::new(), at: 0 };
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
