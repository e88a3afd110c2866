// Who is signed in, and what the daemon lets them do. What is not allowed is not offered; the daemon decides anyhow.

import { createContext, useContext } from "../vendor/htm-preact.js";

export const Session = createContext(null);

const IMPLIED = { admin: ["read", "logs", "submit-template", "submit", "control"], submit: ["submit-template"] };

/** A function that says whether the session has a scope: `const may = useMay(); may("control") && …` */
export function useMay() {
  const session = useContext(Session);
  const scopes = session?.scopes ?? [];
  return (scope) => scopes.includes(scope) || scopes.some((each) => IMPLIED[each]?.includes(scope));
}
