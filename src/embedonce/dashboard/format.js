/** Numbers and dates as people read them. Money in USD, times in milliseconds, days in UTC. */

const LOCALE = "en-US";
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(LOCALE, { notation: "compact", maximumSignificantDigits: 3 });
const cents = new Intl.NumberFormat(LOCALE, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const mills = new Intl.NumberFormat(LOCALE, { minimumFractionDigits: 3, maximumFractionDigits: 3 });
const tiny = new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: 2, maximumFractionDigits: 12 });
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const DAY_MS = 86_400_000;

export const NONE = "–";

export const count = (n) => (Number.isFinite(n) ? (Math.abs(n) < 1e6 ? whole : short).format(n) : NONE);

export const exact = (n) => (Number.isFinite(n) ? whole.format(n) : NONE);

/** Two digits that count, however small: an embedding costs millionths. */
export function usd(n) {
  if (!Number.isFinite(n)) return NONE;
  const size = Math.abs(n);
  const form = size === 0 ? whole : size >= 10_000 ? whole : size >= 1 ? cents : size >= 0.01 ? mills : tiny;
  return `${n < 0 ? "−" : ""}$${form.format(size)}`;
}

export function percent(ratio) {
  if (!Number.isFinite(ratio)) return NONE;
  const value = ratio * 100;
  if (value > 0 && value < 0.1) return "<0.1%";
  // 100 % is said only of all.
  const digits = value > 0 && value < 10 ? 1 : value > 99 && value < 100 ? 1 : 0;
  const floored = value < 100 ? Math.min(value, 99.9) : value;
  return `${floored.toFixed(digits)}%`;
}

/** A cosine with so many decimals, and a true minus sign. */
export const cosineText = (n, digits = 2) => n.toFixed(digits).replace(/^-(?=.*[1-9])/, "−").replace(/^-/, "");

export function duration(ms) {
  if (!Number.isFinite(ms)) return NONE;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

export function size(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

const parts = (iso) => iso.split("-").map(Number);

/** "Nov 20" */
export const shortDay = (iso) => `${MONTHS[parts(iso)[1] - 1]} ${parts(iso)[2]}`;

/** "Fri, Nov 20" */
export const longDay = (iso) => `${WEEKDAYS[new Date(`${iso}T00:00:00Z`).getUTCDay()]}, ${shortDay(iso)}`;

/** "November 2026" is long on a phone: "Nov 2026". */
export const month = (iso) => `${MONTHS[parts(iso)[1] - 1]} ${parts(iso)[0]}`;

const isoDay = (time) => new Date(time).toISOString().slice(0, 10);

/** {from, to} of the last `days` days, today included. */
export function period(days, now = Date.now()) {
  return { from: isoDay(now - (days - 1) * DAY_MS), to: isoDay(now) };
}

/** Every day from..to. */
export function daysBetween(from, to) {
  const days = [];
  for (let t = Date.parse(`${from}T00:00:00Z`); t <= Date.parse(`${to}T00:00:00Z`); t += DAY_MS) {
    days.push(isoDay(t));
  }
  return days;
}
