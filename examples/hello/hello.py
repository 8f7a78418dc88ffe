"""An AWS Lambda function, run by the stock Lambda client; `edgescale` gives it its tables."""

import edgescale


def handler(event, context):
    name = event["data"]["name"]
    edgescale.increment("visits", {"name": name}, {"count": 1})
    visits = edgescale.get("visits", {"name": name})["count"]
    return {"hello": name, "visits": visits}
