/** An instance of function ws that takes `COUNT` connections of `USER` and waits to be killed: `URL USER COUNT`. */
import postgres from "postgres";
import { createSlots } from "../../../functions/ws/slots.ts";

const [url, user, count] = process.argv.slice(2) as [string, string, string];
const slots = createSlots({
  sql: postgres(url, { max: 1 }),
  openSession: (onclose) => postgres(url, { max: 1, onclose }),
  log: () => {},
});
for (let taken = 0; taken < Number(count); taken++) await slots.take(user);
console.log("taken");
setInterval(() => {}, 60_000);
