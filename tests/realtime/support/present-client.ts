/** A client of its own process that tracks itself until it is killed: `URL KEY TOKEN TOPIC NAME`. */
import { createClient } from "@supabase/supabase-js";

const [url, key, token, topic, name] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
];
const client = createClient(url, key, { accessToken: () => Promise.resolve(token) });
await client.realtime.setAuth();
const channel = client.channel(topic, { config: { presence: { key: name, enabled: true } } });
channel.subscribe(async (status) => {
  if (status === "SUBSCRIBED") console.log(await channel.track({ name }));
});
