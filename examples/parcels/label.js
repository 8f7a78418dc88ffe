// OpenWhisk's form: the arguments are the call's data and the rows of its inputs.

export function main({ parcel }) {
  if (!parcel) throw new Error("no such parcel");
  return { label: `PARCEL ${parcel.id}\nTO ${parcel.to}\n`, parcel };
}
