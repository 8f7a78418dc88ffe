"""Four small AWS Lambda functions over two tables."""

import edgescale


def take(event, context):
    """An event `reading.<room>` with `{"celsius": 21.5}`."""
    room = event["name"].split(".")[1]
    celsius = float(event["data"]["celsius"])
    reading = {"room": room, "celsius": celsius, "coldest": celsius, "warmest": celsius}
    edgescale.put("rooms", reading)


def watch(event, context):
    """A changed row of `rooms`. Safe to repeat: an alarm that is open stays open."""
    row = event["data"]["row"]
    if row is None or row["celsius"] < warm() or is_open(row["room"]):
        return
    alarm = {"room": row["room"], "celsius": row["celsius"], "open": True}
    edgescale.put("alarms", alarm)
    edgescale.publish(f"alarm.{row['room']}", {"celsius": row["celsius"]})


def tidy(event, context):
    for alarm in edgescale.scan("alarms"):
        room = edgescale.get("rooms", {"room": alarm["room"]})
        if alarm["open"] and room and room["celsius"] < warm():
            edgescale.put("alarms", {**alarm, "open": False})


def report(event, context):
    return {
        "rooms": edgescale.scan("rooms"),
        "alarms": [alarm["room"] for alarm in edgescale.scan("alarms") if alarm["open"]],
    }


def warm():
    return float(edgescale.config("warm"))


def is_open(room):
    alarm = edgescale.get("alarms", {"room": room})
    return bool(alarm and alarm["open"])
