// What scores are worth at a threshold. Pure: no page, no network.

const Z = 1.959964; // of a normal: 95 %

/** Counts at a threshold over the pictures that are decided: {tp, fp, fn, tn}. */
export function count(scores, answers, threshold) {
  const found = { tp: 0, fp: 0, fn: 0, tn: 0 };
  for (let n = 0; n < scores.length; n += 1) {
    const answer = answers[n];
    if (answer !== "y" && answer !== "n") continue;
    found[answer === "y" ? (scores[n] >= threshold ? "tp" : "fn") : scores[n] >= threshold ? "fp" : "tn"] += 1;
  }
  return found;
}

const ratio = (part, whole) => (whole === 0 ? null : part / whole);
export const precisionOf = ({ tp, fp }) => ratio(tp, tp + fp);
export const recallOf = ({ tp, fn }) => ratio(tp, tp + fn);

/**
 * A proportion {value, low, high} of `trials`, each [hits, size, group]: Wilson's interval, with as
 * many trials as the groups are worth: kin pictures succeed and fail together (the variance of a
 * ratio of sums over groups; Cochran, Sampling Techniques, 6.4). Null without trials.
 */
export function proportion(trials) {
  if (trials.length === 0) return null;
  const groups = new Map();
  let [hits, total] = [0, 0];
  for (const [hit, size, group] of trials) {
    const sum = groups.get(group) ?? [0, 0];
    sum[0] += hit;
    sum[1] += size;
    groups.set(group, sum);
    hits += hit;
    total += size;
  }
  const value = hits / total;
  let spread = 0;
  for (const [hit, size] of groups.values()) spread += (hit - value * size) ** 2;
  const number = groups.size;
  const variance = number > 1 ? (spread / total ** 2) * (number / (number - 1)) : 0;
  // All right or all wrong shows no variance: then a group is a trial.
  const worth = variance > 0 ? Math.min((value * (1 - value)) / variance, trials.length) : number;
  return { value, ...wilson(value, worth) };
}

function wilson(value, trials) {
  const over = 1 + Z ** 2 / trials;
  const middle = (value + Z ** 2 / (2 * trials)) / over;
  const half = (Z / over) * Math.sqrt((value * (1 - value)) / trials + Z ** 2 / (4 * trials ** 2));
  return { low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

/** Precision, recall and F1 with their intervals at a threshold. */
export function measured(scores, answers, groups, threshold) {
  const precision = [];
  const recall = [];
  const f1 = [];
  for (let n = 0; n < scores.length; n += 1) {
    const yes = answers[n] === "y";
    if (!yes && answers[n] !== "n") continue;
    const found = scores[n] >= threshold;
    if (found) precision.push([Number(yes), 1, groups[n]]);
    if (yes) recall.push([Number(found), 1, groups[n]]);
    // A picture that is rightly found counts for both: 2 tp of 2 tp + fp + fn.
    if (yes || found) f1.push(yes && found ? [2, 2, groups[n]] : [0, 1, groups[n]]);
  }
  return { precision: proportion(precision), recall: proportion(recall), f1: proportion(f1) };
}

/** Points {threshold, precision, recall} of the curve, from few yes to many. */
export function curve(scores, answers) {
  const order = [...scores.keys()]
    .filter((n) => answers[n] === "y" || answers[n] === "n")
    .sort((a, b) => scores[b] - scores[a]);
  const positives = order.reduce((sum, n) => sum + (answers[n] === "y"), 0);
  const points = [];
  let tp = 0;
  order.forEach((n, rank) => {
    tp += answers[n] === "y";
    if (rank + 1 < order.length && scores[order[rank + 1]] === scores[n]) return; // ties fall together
    points.push({ threshold: scores[n], precision: tp / (rank + 1), recall: positives ? tp / positives : 0 });
  });
  return points;
}

/** How often scores of each of `bins` occur: {yes, no, rest}, each an array. */
export function histogram(scores, answers, bins) {
  const found = { yes: Array(bins).fill(0), no: Array(bins).fill(0), rest: Array(bins).fill(0) };
  for (let n = 0; n < scores.length; n += 1) {
    const kind = { y: "yes", n: "no" }[answers[n]] ?? "rest";
    found[kind][Math.min(Math.floor(scores[n] * bins), bins - 1)] += 1;
  }
  return found;
}

/** Per bin of score that has pictures: {score (mean), share of yes with interval, count}. */
export function calibration(scores, answers, groups, bins) {
  const found = Array.from({ length: bins }, () => ({ sum: 0, trials: [] }));
  for (let n = 0; n < scores.length; n += 1) {
    if (answers[n] !== "y" && answers[n] !== "n") continue;
    const bin = found[Math.min(Math.floor(scores[n] * bins), bins - 1)];
    bin.sum += scores[n];
    bin.trials.push([Number(answers[n] === "y"), 1, groups[n]]);
  }
  return found
    .filter(({ trials }) => trials.length > 0)
    .map(({ sum, trials }) => ({ score: sum / trials.length, share: proportion(trials), count: trials.length }));
}

/**
 * How often each label is found on pictures that show another and not it:
 * rows of {shown, found: [{label, hits, of}]}.
 */
export function confusion(labels, scores, answers, thresholds) {
  return labels.map((shown) => ({
    shown,
    found: labels.map((label) => {
      let [hits, of] = [0, 0];
      for (let n = 0; n < answers[shown].length; n += 1) {
        if (answers[shown][n] !== "y" || (label !== shown && answers[label][n] !== "n")) continue;
        of += 1;
        hits += scores[label][n] >= thresholds[label];
      }
      return { label, hits, of };
    }),
  }));
}
