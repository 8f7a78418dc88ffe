// An AWS Lambda function: `event` holds `kind`, `id`, `name` and `data` of what came.

import * as edgescale from "edgescale";

export const handler = async (event) => {
  const { name } = event.data;
  await edgescale.increment("visits", { name }, { count: 1 });
  const { count } = await edgescale.get("visits", { name });
  console.log(`${name} was here ${count} times`);
  return { hello: name, visits: count };
};
