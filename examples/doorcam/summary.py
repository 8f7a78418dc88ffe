"""Sums up motion per camera and minute, and tells about it when asked.

An unchanged AWS Lambda function: `handler(event, context)`. State goes through `edgescale`.
"""

import edgescale

MINUTE_US = 60_000_000


def handler(event, context):
    if event["kind"] == "event":
        return count(event["id"], event["data"])
    return summary(event["data"] or {})


def count(event_id, motion):
    """Merging makes this safe to repeat: the same event twice leaves the same row."""
    edgescale.put(
        "motion_minute",
        {
            "camera": motion["camera"],
            "minute": motion["time_us"] // MINUTE_US,
            "events": [event_id],
            "max_score": motion["score"],
            "first_us": motion["time_us"],
            "last_us": motion["time_us"],
        },
    )


def summary(question):
    camera = question.get("camera")
    rows = edgescale.scan("motion_minute", prefix={"camera": camera} if camera else None)
    minutes = [describe(row) for row in rows]
    return {
        "minutes": minutes,
        "events": sum(minute["events"] for minute in minutes),
        "max_score": max((minute["max_score"] for minute in minutes), default=0.0),
    }


def describe(row):
    return {
        "camera": row["camera"],
        "minute": row["minute"],
        "events": len(row["events"]),
        "max_score": row["max_score"],
        "first_us": row["first_us"],
        "last_us": row["last_us"],
    }
