"""Two AWS Lambda functions; what they need comes with the event."""


def scan(event, context):
    parcel = event["inputs"]["parcel"] or {"to": event["data"].get("to"), "stops": 0}
    place = event["data"]["place"]
    seen = {**parcel, "place": place, "stops": parcel["stops"] + 1}
    arrived = {"place": place, "stops": seen["stops"]} if place == parcel["to"] else None
    return {"parcel": seen, "arrived": arrived}


def show(event, context):
    parcel = event["inputs"]["parcel"]
    if parcel is None:
        return {"statusCode": 404, "body": "no such parcel\n"}
    return {"place": parcel["place"], "stops": parcel["stops"]}
