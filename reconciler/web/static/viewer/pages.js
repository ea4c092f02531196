// Pages of the log from the server, and where in the file each of their lines ends.

import { getJson } from "../net.js";

const encoder = new TextEncoder();

export class Pages {
  constructor(pid) {
    this.url = `/logs/workers/logs/${encodeURIComponent(pid)}`;
  }

  /** `{lines, ends, start, end}`: the newest `lines` before byte `before`, or before the end of the file. */
  async read(filter, lines, before, signal) {
    const query = new URLSearchParams({ lines, ...filter });
    if (before !== null) query.set("before", before);
    const page = await getJson(`${this.url}?${query}`, { signal });
    const filtered = Object.keys(filter).length > 0;
    const ends = page.ends ?? (filtered ? null : reckoned(page));
    return { lines: page.lines, ends, start: page.offset, end: page.end };
  }
}

/** Where the lines end, from their lengths; null where these do not add up (bytes that were no UTF-8). */
function reckoned({ lines, offset, end }) {
  const ends = [];
  let at = offset;
  for (const line of lines) {
    const cut = / … \(([\d,]+) bytes\)$/.exec(line);
    at += (cut ? Number(cut[1].replaceAll(",", "")) : encoder.encode(line).length) + 1;
    ends.push(at);
  }
  return at === end ? ends : null;
}
