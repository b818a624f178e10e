// An application in a browser, on an origin of its own. What it does is called by the test; what it holds is not in
// the test's reach, and in no other script's.
import { Session } from "/session.js";
import { throwAway } from "/wallet.js";

const told = Object.fromEntries(new URLSearchParams(location.search));
const session = new Session({ base: told.base, apiKey: told.key });

/** What is known of the access token, which stays where it is. */
const held = () => session.held?.claims;

globalThis.application = {
  signIn: async () => {
    await session.signIn(throwAway());
    return held();
  },
  refresh: async () => {
    await session.refresh();
    return held();
  },
  visit: async () => (await session.ask(told.portfolio)).status,
  logOut: () => session.logOutAndTry(told.portfolio),

  /** Refreshes and visits, again and again; what each access token claimed. */
  async goOn(times) {
    const claims = [];
    for (let time = 0; time < times; time += 1) {
      claims.push(await application.refresh());
      await application.visit();
    }
    return claims;
  },

  /** All that a script of this origin can read of what a browser keeps. */
  kept: async () => ({
    cookie: document.cookie,
    cookies: await cookieStore.getAll(),
    local: { ...localStorage },
    session: { ...sessionStorage },
    databases: await indexedDB.databases(),
    caches: await caches.keys(),
  }),
};
