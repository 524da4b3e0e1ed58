// The suite has no option for a header: each request of its clients gets the caller's key.
import { Agent, setGlobalDispatcher } from "undici";

const key = `Bearer ${process.env.EDGE_KEY}`;
const fetched = globalThis.fetch;
globalThis.fetch = (url, init = {}) => {
  const headers = new Headers(init.headers ?? {});
  headers.set("authorization", key);
  return fetched(url, { ...init, headers });
};
const authorized = (dispatch) => (options, handler) => {
  const given = options.headers;
  let headers;
  if (Array.isArray(given)) headers = [...given, "authorization", key];
  else if (given && typeof given[Symbol.iterator] === "function") headers = [...given, ["authorization", key]].flat();
  else headers = { ...(given ?? {}), authorization: key };
  return dispatch({ ...options, headers }, handler);
};
setGlobalDispatcher(new Agent().compose(authorized));
