use super::*;

#[test]
fn names_of_the_node_become_families_with_labels() {
    let check = |(family, labels): Series, wanted: &str| {
        assert_eq!(format!("{family}{}", braces(&labels)), wanted);
    };
    check(
        count_series("invocations shop/echo"),
        "edgescale_invocations_total{app=\"shop\",handler=\"echo\"}",
    );
    check(
        count_series("ended timeout shop/echo"),
        "edgescale_invocation_failures_by_reason_total\
         {app=\"shop\",handler=\"echo\",reason=\"timeout\"}",
    );
    check(count_series("dead letters"), "edgescale_dead_letters_total");
    check(count_series("frames on cpu0"), "edgescale_device_frames_total{device=\"cpu0\"}");
    check(count_series("http refused 404"), "edgescale_http_refused_total{code=\"404\"}");
    check(count_series("calls refused 429"), "edgescale_calls_refused_total{code=\"429\"}");
    check(count_series("calls sent down"), "edgescale_other_total{name=\"calls sent down\"}");
    check(
        count_series("outside refused, too many"),
        "edgescale_outside_refused_total{reason=\"too many\"}",
    );
    check(count_series("some new count"), "edgescale_other_total{name=\"some new count\"}");
    check(
        time_series("accelerate copy opencl0"),
        "edgescale_device_stage_seconds{device=\"opencl0\",stage=\"copy\"}",
    );
    check(time_series("blob put"), "edgescale_store_seconds{operation=\"blob_put\"}");
    check(time_series("a \"b\\\n"), "edgescale_other_seconds{name=\"a \\\"b\\\\\\n\"}");
}

#[test]
fn a_histogram_is_cumulative_and_ends_with_all() {
    let metrics = handlers::metrics::Metrics::default();
    for us in [1, 16, 17, 5_000_000_000] {
        metrics.time_us("http", us);
    }
    let mut out = Exposition::default();
    for (name, times) in metrics.distributions() {
        let (family, labels) = time_series(&name);
        out.histogram(family, &labels, &times);
    }
    let text = out.text();
    for line in [
        "# TYPE edgescale_http_request_seconds histogram",
        "edgescale_http_request_seconds_bucket{le=\"0.000016\"} 2",
        "edgescale_http_request_seconds_bucket{le=\"0.000064\"} 3",
        "edgescale_http_request_seconds_bucket{le=\"+Inf\"} 4",
        "edgescale_http_request_seconds_count 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{text} lacks {line}");
    }
}
