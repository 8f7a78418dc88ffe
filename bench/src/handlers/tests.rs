use super::*;

#[test]
fn each_number_has_code_of_its_own() {
    let [first, second] = [0, 1].map(|number| component(number).unwrap());
    assert_ne!(first, second);
    assert_eq!(first, component(0).unwrap());
}

#[test]
fn a_line_says_how_much_of_the_goal_is_reached() {
    let line = Line::at_most("x", 300.0, Duration::from_micros(600));
    assert_eq!((line.goal.as_str(), line.measured.as_str()), ("300.0 µs", "600.0 µs"));
    assert_eq!(line.reached, Some(0.5));
    assert_eq!(Line::without("x", "1 ms", "no tools").measured, "not measured: no tools");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_tools_is_measured() {
    let nothing = TempDir::new().unwrap();
    let guests = nothing.path().to_owned();
    let options = Options { budget_ms: 20, handlers: 3, guests };
    let report = run(&options, nothing.path(), None).await.unwrap();
    let (measured, left): (Vec<_>, Vec<_>) =
        report.lines.iter().partition(|line| line.reached.is_some());
    assert_eq!(measured.len(), 6, "{}", table(&report));
    assert!(left.iter().all(|line| line.measured.starts_with("not measured: ")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_soak_counts_what_is_held_and_meets_no_surprise() {
    let nothing = TempDir::new().unwrap();
    let options = soak::Options { seconds: 1, guests: nothing.path().to_owned() };
    let report = soak::run(&options, nothing.path(), None).await.unwrap();
    assert_eq!((report.astray, report.windows.len()), (0, 10), "{}", soak::table(&report));
    let last = report.windows.last().unwrap();
    assert!(last.invocations > 0 && last.held.anonymous_bytes > 0 && last.held.files > 0);
    assert_eq!(report.instances_left, 0);
}
