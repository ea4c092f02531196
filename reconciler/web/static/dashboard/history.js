// How many messages each queue held over the last minutes, as this page saw it, and a small curve of it.

const SPAN = 180_000; // milliseconds shown once there are as many
const LEAST = 40_000; // and at first
const STEP = 1_500; // the least distance of two samples

export class History {
  constructor() {
    this.samples = new Map();
    this.last = 0;
  }

  add(queues, now) {
    const replace = now - this.last < STEP;
    if (!replace) this.last = now;
    for (const [name, queue] of queues) {
      if (queue.messages === null) continue;
      let samples = this.samples.get(name);
      if (!samples) this.samples.set(name, (samples = []));
      if (replace && samples.length) samples[samples.length - 1].value = queue.messages;
      else samples.push({ at: now, value: queue.messages });
      while (samples[0].at < now - SPAN) samples.shift();
    }
    for (const name of this.samples.keys()) if (!queues.has(name)) this.samples.delete(name);
  }

  /** The `d` of a line and of the area under it, in a box of `width` × `height`. Empty before the second sample. */
  curve(name, now, width, height) {
    const samples = this.samples.get(name) ?? [];
    if (samples.length < 2) return { line: "", area: "" };
    let low = Infinity;
    let high = 0;
    for (const { value } of samples) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    // A queue that hardly moves shows a calm line, not its noise blown up.
    const base = high - low < high * 0.1 ? Math.max(0, low - high * 0.2) : low;
    const scale = (height - 3) / Math.max(high - base, 1);
    const span = Math.max(LEAST, now - samples[0].at);
    const x = (at) => (width * (1 - (now - at) / span)).toFixed(1);
    const y = (value) => (height - 1.5 - (value - base) * scale).toFixed(1);
    const line = samples.map(({ at, value }, i) => `${i ? "L" : "M"}${x(at)} ${y(value)}`).join("");
    return { line, area: `${line}V${height}H${x(samples[0].at)}Z` };
  }
}
