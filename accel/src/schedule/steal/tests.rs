use super::*;

fn device(backlog_us: u64, is_accelerator: bool) -> DeviceView {
    let (quarantined_us, is_warming, room) = (0, false, 8);
    DeviceView { is_accelerator, quarantined_us, is_warming, backlog_us, room }
}

fn behind(device: usize, there_us: u64, here_us: u64) -> Behind {
    Behind { device, there_us, here_us, slack_us: None }
}

#[test]
fn the_busiest_gives_what_suits_the_idle_one_best() {
    let devices = [device(0, false), device(900, false), device(1000, false)];
    let take = |jobs: &[Behind]| steal(0, &devices, jobs, Prefer::Fastest);
    assert_eq!(take(&[]), None);
    assert_eq!(take(&[behind(1, 100, 899)]), Some(0));
    assert_eq!(take(&[behind(1, 100, 900)]), None, "all is done as soon there");
    assert_eq!(take(&[behind(1, 100, 10), behind(2, 100, 500)]), Some(1), "it has more to do");
    assert_eq!(take(&[behind(2, 100, 900), behind(2, 300, 600)]), Some(1), "it is better at it");
    assert_eq!(take(&[behind(2, 100, 200), behind(2, 50, 100)]), Some(0), "the first of two alike");
    assert_eq!(take(&[behind(2, 10, 0)]), Some(0), "what takes no time can be compared");
}

#[test]
fn deadlines_and_preferences_are_kept() {
    let devices = [device(0, false), device(1000, true)];
    let job = behind(1, 100, 500);
    let take = |job: Behind, prefer| steal(0, &devices, &[job], prefer);
    assert_eq!(take(job, Prefer::Fastest), Some(0));
    assert_eq!(take(job, Prefer::Accelerator), None, "it is on an accelerator");
    assert_eq!(take(Behind { slack_us: Some(500), ..job }, Prefer::Fastest), Some(0));
    assert_eq!(take(Behind { slack_us: Some(499), ..job }, Prefer::Fastest), None);
    let devices = [device(0, true), device(1000, false)];
    assert_eq!(steal(0, &devices, &[job], Prefer::Accelerator), Some(0));
}
