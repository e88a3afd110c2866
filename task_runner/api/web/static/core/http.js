// Requests to the daemon. Its refusals become ApiError, which has what the daemon said.

export class ApiError extends Error {
  constructor(status, problem, headers = new Headers()) {
    super(problem.detail || `the daemon answered ${status}`);
    this.status = status;
    this.headers = headers;
    this.fields = problem.errors || [];
  }
}

/** What is thrown where no answer came at all. */
export class NoContact extends Error {}

/** Whether the same request may be answered another time. */
export function passes(error) {
  return !(error instanceof ApiError) || error.status >= 500 || error.status === 429;
}

const signedOut = new Set();

/** Call `heard` whenever the daemon says that it does not know who we are. */
export function onSignedOut(heard) {
  signedOut.add(heard);
  return () => signedOut.delete(heard);
}

let session = 0;

/** Somebody has just signed in: what is refused from now on, but was asked before, says nothing of them. */
export function beginSession() {
  session += 1;
}

/** "?a=1&b=2" of an object: what is null, undefined or "" is left out, a list gives its name again for each. */
export function query(parameters = {}) {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") pairs.append(name, each);
    }
  }
  const text = pairs.toString();
  return text && `?${text}`;
}

/** The Response, whatever its kind; ApiError where it is a refusal. */
export async function request(path, { method = "GET", body, headers = {}, signal } = {}) {
  const options = { method, headers: { ...headers }, signal, credentials: "same-origin" };
  if (body !== undefined) {
    options.headers["Content-Type"] ??= "application/json";
    options.body = JSON.stringify(body);
  }
  const asked = session;
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new NoContact("no contact with the daemon; tasks run on meanwhile");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401 && asked === session) signedOut.forEach((heard) => heard());
  throw new ApiError(response.status, problem, response.headers);
}

/** The JSON at a path. */
export async function get(path, parameters, options) {
  return (await request(path + query(parameters), options)).json();
}

/** Send JSON; the answer's JSON. */
export async function send(method, path, body = {}, options = {}) {
  const response = await request(path, { ...options, method, body });
  return response.status === 204 ? null : response.json();
}

/** A path of the API with each part escaped: route`/v1/tasks/${id}`. */
export function route(parts, ...values) {
  return parts.reduce((path, part, i) => path + encodeURIComponent(values[i - 1]) + part);
}
