use tokio::io::duplex;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_tunnel_lasts_while_something_goes_through_it() {
    let ((mut inside, near), (mut outside, far)) = (duplex(64), duplex(64));
    let idle_max = Duration::from_secs(60);
    let carried = tokio::spawn(carry(near, far, idle_max));
    let mut got = [0; 5];
    for _ in 0..5 {
        // One direction is enough.
        tokio::time::sleep(Duration::from_secs(50)).await;
        outside.write_all(b"hello").await.unwrap();
        inside.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
    }
    let started = tokio::time::Instant::now();
    carried.await.unwrap();
    assert!(started.elapsed() <= idle_max + Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(outside.read(&mut got).await.unwrap(), 0, "both sides hear of its end");
    assert_eq!(inside.read(&mut got).await.unwrap(), 0);
}

#[tokio::test]
async fn an_end_is_passed_on_and_the_other_direction_stays() {
    let ((mut inside, near), (mut outside, far)) = (duplex(64), duplex(64));
    let carried = tokio::spawn(carry(near, far, Duration::from_secs(60)));
    inside.write_all(b"all").await.unwrap();
    inside.shutdown().await.unwrap();
    let mut got = String::new();
    outside.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "all");
    outside.write_all(b"answer").await.unwrap();
    outside.shutdown().await.unwrap();
    let mut got = String::new();
    inside.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "answer");
    carried.await.unwrap();
}
