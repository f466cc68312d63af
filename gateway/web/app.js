"use strict";
// The first web page: a client of the same API as any other. Text from people only ever becomes text nodes.

const main = document.getElementById("main");
const navigation = document.getElementById("navigation");
const noticeLine = document.getElementById("notice");
const session = {
  token: localStorage.getItem("token"),
  account: JSON.parse(localStorage.getItem("account") || "null"),
  // The position of the last write: what is read afterwards is not older than that.
  position: Number(sessionStorage.getItem("position") || 0),
};
let objectUrl = null;
let turns = 0; // how many views were asked for

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-") || key.startsWith("data-") || key === "for" || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

// For Idempotency-Key: what is sent again with the same one is done once. randomUUID is for https only.
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(36)).join("-");
}

function count(number, one, many) {
  return `${number} ${number === 1 ? one : many}`;
}

function notice(text) {
  noticeLine.textContent = text;
}

function link(path, text, name = "") {
  return element("a", { href: path, className: name, "data-route": "" }, text);
}

function button(text, onclick, properties = {}) {
  const made = element("button", { type: "button", ...properties }, text);
  made.addEventListener("click", async () => {
    made.disabled = true;
    try {
      await onclick(made);
    } catch (error) {
      notice(error.message);
    } finally {
      made.disabled = false;
    }
  });
  return made;
}

async function call(method, path, { body = null, key = null } = {}) {
  const url = new URL(path, location.origin);
  if (method === "GET" && session.position && !url.searchParams.has("min_position")) {
    url.searchParams.set("min_position", session.position);
  }
  const headers = {}, token = session.token;
  if (token) headers.Authorization = `Bearer ${token}`;
  if (key) headers["Idempotency-Key"] = key;
  if (body && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  for (let tries = 0; ; tries++) {
    const response = await fetch(url, { method, headers, body });
    if (response.status === 503 && tries < 3 && (method === "GET" || key)) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * Number(response.headers.get("Retry-After") || 1)));
      continue;
    }
    const position = Number(response.headers.get("Darkroom-Position") || 0);
    if (method !== "GET" && position > session.position) {
      session.position = position;
      sessionStorage.setItem("position", position);
    }
    const answer = await response.json();
    if (response.status === 401 && token && token === session.token) signOut();
    if (!response.ok) throw new Error(answer.error_description || answer.error || `error ${response.status}`);
    return { answer, next: nextPage(response.headers.get("Link")) };
  }
}

function nextPage(header) {
  const match = /<([^>]*)>; rel="next"/.exec(header || "");
  if (!match) return null;
  const url = new URL(match[1]);
  return url.pathname + url.search;
}

// Signing in and out

async function enter(token) {
  session.token = token;
  localStorage.setItem("token", token);
  const { answer } = await call("GET", "/api/v1/accounts/verify_credentials");
  session.account = answer;
  localStorage.setItem("account", JSON.stringify(answer));
}

function signOut() {
  session.token = session.account = null;
  localStorage.clear();
  go("/");
}

function signInView() {
  const name = element("input", { id: "username", name: "username", autocomplete: "username", required: true, maxLength: 30, autocapitalize: "none" });
  const password = element("input", { id: "password", name: "password", type: "password", autocomplete: "current-password", required: true, minLength: 8 });
  const form = element("form", { id: "sign-in" },
    element("h1", {}, "Welcome to Darkroom"),
    element("label", { for: "username" }, "Name"), name,
    element("label", { for: "password" }, "Password"), password,
    element("p", { className: "hint" }, "A name has letters, digits and _; a password at least eight characters."),
    element("div", { className: "buttons" },
      element("button", { type: "submit", value: "in" }, "Sign in"),
      element("button", { type: "submit", value: "up", className: "plain" }, "Sign up")));
  onSubmit(form, async (event) => {
    const given = { username: name.value, password: password.value };
    const isNew = event.submitter && event.submitter.value === "up";
    const { answer } = isNew
      ? await call("POST", "/api/v1/accounts", { body: { ...given, agreement: true } })
      : await call("POST", "/oauth/token", { body: { ...given, grant_type: "password", scope: "read write follow push" } });
    if (!answer.access_token) throw new Error("Your account is being made; sign in in a moment.");
    await enter(answer.access_token);
    if (form.isConnected) go("/");
    else route(); // whoever has gone on meanwhile sees the same as one who is signed in
  });
  return ["Sign in", form];
}

function onSubmit(form, work) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const buttons = form.querySelectorAll("button");
    buttons.forEach((each) => (each.disabled = true));
    notice("");
    try {
      await work(event);
    } catch (error) {
      notice(error.message);
    } finally {
      buttons.forEach((each) => (each.disabled = false));
    }
  });
}

// Posts

function postCard(post) {
  const photos = post.media_attachments.map((medium) =>
    element("img", {
      className: "photo", src: medium.preview_url, loading: "lazy", decoding: "async",
      alt: medium.description || `Photo by ${post.account.display_name || post.account.acct}, without a description`,
      width: medium.meta.small.width, height: medium.meta.small.height,
    }));
  const card = element("article", { "data-post": post.id, "aria-label": `Post by ${post.account.acct}` },
    element("div", { className: "head" },
      element("img", { className: "avatar", src: post.account.avatar, alt: "" }),
      link(`/@${post.account.acct}`, post.account.display_name || post.account.acct),
      element("time", { dateTime: post.created_at }, new Date(post.created_at).toLocaleString())),
    ...photos);
  if (post.content_text) card.append(element("p", { className: "caption" }, post.content_text));
  card.append(acts(post, card));
  return card;
}

function acts(post, card) {
  const row = element("div", { className: "acts" });
  const like = button("", async () => {
    const { answer } = await call("POST", `/api/v1/statuses/${post.id}/${post.favourited ? "unfavourite" : "favourite"}`);
    Object.assign(post, answer);
    draw();
  }, { className: "like" });
  function draw() {
    like.setAttribute("aria-pressed", String(post.favourited));
    like.textContent = `${post.favourited ? "♥" : "♡"} ${post.favourites_count}`;
    like.setAttribute("aria-label", `Like, ${post.favourites_count} so far`);
  }
  draw();
  row.append(like, link(`/@${post.account.acct}/${post.id}`, count(post.replies_count, "comment", "comments"), "comment-count"));
  if (session.account && post.account.id === session.account.id) {
    row.append(button("Delete", async () => {
      if (!confirm("Delete this post for ever?")) return;
      await call("DELETE", `/api/v1/statuses/${post.id}`);
      card.remove();
      notice("Deleted.");
    }, { className: "plain" }));
  }
  return row;
}

async function pageOf(path, list, empty) {
  const { answer, next } = await call("GET", path);
  answer.forEach((post) => list.append(postCard(post)));
  if (!answer.length) list.append(element("p", { className: "empty" }, list.childElementCount ? "That was all." : empty));
  if (next && answer.length) {
    const more = button("Older", async () => {
      await pageOf(next, list, empty);
      more.remove();
    }, { className: "plain older" });
    list.append(more);
  }
}

async function homeView() {
  const list = element("section", { id: "feed", "aria-label": "Home feed" });
  await pageOf("/api/v1/timelines/home", list, "Nothing here yet: follow somebody, or upload a photo.");
  return ["Home", element("h1", {}, "Home"), list];
}

async function postView(id) {
  const [{ answer: post }, { answer: context }] = await Promise.all([
    call("GET", `/api/v1/statuses/${id}`), call("GET", `/api/v1/statuses/${id}/context`)]);
  const comments = element("ul", { className: "comments", id: "comments" }, ...context.descendants.map(commentLine));
  const text = element("textarea", { id: "comment", required: true });
  const form = element("form", { id: "comment-form" },
    element("label", { for: "comment" }, "Comment"), text,
    element("div", { className: "buttons" }, element("button", { type: "submit" }, "Send")));
  let key = newKey();
  onSubmit(form, async () => {
    const { answer } = await call("POST", "/api/v1/statuses", { body: { status: text.value, in_reply_to_id: id }, key });
    key = newKey();
    comments.append(commentLine(answer));
    text.value = "";
  });
  return ["Post", postCard(post), element("h2", {}, "Comments"), comments, ...(session.token ? [form] : [])];
}

function commentLine(comment) {
  if (comment.deleted) return element("li", { className: "gone" }, "This comment was deleted.");
  return element("li", { "data-comment": comment.id },
    link(`/@${comment.account.acct}`, comment.account.acct), " ", comment.content_text);
}

// Profiles

async function profileView(name) {
  const { answer: account } = await call("GET", `/api/v1/accounts/lookup?acct=${encodeURIComponent(name)}`);
  const counts = element("p", { className: "counts" });
  const person = element("div", { className: "person" },
    element("img", { className: "avatar", src: account.avatar, alt: "" }),
    element("div", {}, element("h1", {}, account.display_name || account.acct), element("p", {}, `@${account.acct}`), element("p", {}, textOf(account.note)), counts));
  const draw = () => {
    counts.textContent = [
      count(account.statuses_count, "post", "posts"),
      count(account.followers_count, "follower", "followers"),
      `${account.following_count} following`,
    ].join(", ");
  };
  draw();
  if (session.account && account.id !== session.account.id) await addFollow(account, person, draw);
  const list = element("section", { id: "posts", "aria-label": `Posts by ${account.acct}` });
  await pageOf(`/api/v1/accounts/${account.id}/statuses`, list, "No posts yet.");
  return [account.acct, person, list];
}

function textOf(html) {
  return new DOMParser().parseFromString(html, "text/html").body.textContent;
}

async function addFollow(account, person, draw) {
  let { answer: [standing] } = await call("GET", `/api/v1/accounts/relationships?id[]=${account.id}`);
  const follow = button("", async () => {
    const before = standing.following;
    standing = (await call("POST", `/api/v1/accounts/${account.id}/${before ? "unfollow" : "follow"}`)).answer;
    account.followers_count += Number(standing.following) - Number(before);
    label();
  }, { id: "follow" });
  function label() {
    follow.textContent = standing.following ? "Following" : "Follow";
    follow.setAttribute("aria-pressed", String(standing.following));
    draw();
  }
  label();
  person.append(follow);
}

// Uploading

function uploadView() {
  const file = element("input", { id: "photo", type: "file", accept: "image/jpeg,image/png,image/webp,image/gif", required: true });
  const preview = element("img", { className: "chosen", alt: "The photo that you chose", hidden: true });
  const description = element("input", { id: "description", maxLength: 1500 });
  const caption = element("textarea", { id: "caption" });
  const form = element("form", { id: "upload-form" },
    element("h1", {}, "Upload a photo"),
    element("label", { for: "photo" }, "Photo (JPEG, PNG, WebP or GIF)"), file, preview,
    element("label", { for: "description" }, "Description, for those who cannot see it"), description,
    element("label", { for: "caption" }, "Caption"), caption,
    element("div", { className: "buttons" }, element("button", { type: "submit" }, "Post")));
  file.addEventListener("change", () => {
    forgetObjectUrl();
    preview.hidden = !file.files.length;
    if (file.files.length) preview.src = objectUrl = URL.createObjectURL(file.files[0]);
  });
  const key = newKey();
  onSubmit(form, async () => {
    notice("Developing…");
    const data = new FormData();
    data.append("description", description.value);
    data.append("file", file.files[0]);
    const { answer: medium } = await call("POST", "/api/v2/media", { body: data });
    await call("POST", "/api/v1/statuses", { body: { status: caption.value, media_ids: [medium.id] }, key });
    notice("Posted.");
    if (form.isConnected) go("/");
  });
  return ["Upload", form];
}

function forgetObjectUrl() {
  if (objectUrl) URL.revokeObjectURL(objectUrl);
  objectUrl = null;
}

// Routes

function show(title, ...children) {
  document.title = `${title} – Darkroom`;
  main.replaceChildren(...children);
}

function go(path) {
  history.pushState(null, "", path);
  route();
}

// A view is its title and what is shown, in order.
function viewOf(path) {
  const [, name, id] = /^\/@([^/]+)(?:\/(\d+))?$/.exec(path) || [];
  if (id) return postView(id);
  if (name) return profileView(decodeURIComponent(name));
  if (!session.token) return signInView();
  if (path === "/upload") return uploadView();
  return homeView();
}

async function route() {
  const turn = ++turns;
  forgetObjectUrl();
  navigation.hidden = !session.token;
  if (session.account) document.getElementById("own-profile").href = `/@${session.account.acct}`;
  let view;
  try {
    view = await viewOf(location.pathname);
  } catch (error) {
    view = ["Darkroom", element("p", { className: "empty" }, error.message)];
  }
  // Whoever has gone on, or was signed out by a refused token, no longer wants what comes late.
  if (turn === turns) show(...view);
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("a[data-route]");
  if (!target || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  notice("");
  go(target.getAttribute("href"));
  main.focus({ preventScroll: true });
});
document.getElementById("sign-out").addEventListener("click", async () => {
  const token = session.token;
  signOut();
  await call("POST", "/oauth/revoke", { body: { token } }).catch(() => {});
});
window.addEventListener("popstate", route);
route();
