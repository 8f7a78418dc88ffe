"""An AWS Lambda function: `event` holds `kind`, `id`, `name` and `data` of what came."""

import edgescale


def handler(event, context):
    name = event["data"]["name"]
    edgescale.increment("visits", {"name": name}, {"count": 1})
    visits = edgescale.get("visits", {"name": name})["count"]
    print(f"{name} was here {visits} times")
    return {"hello": name, "visits": visits}
