// Drawings of a label's scores. Colours are the style sheet's; shapes tell apart what colours do.

import { draw } from "./drawing.js";
import { calibration, curve, histogram } from "./measures.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [320, 200, 34, 26, 8];
const BINS = 40;
const across = (value) => LEFT + value * (WIDTH - LEFT - 8);
const up = (value) => HEIGHT - BOTTOM - value * (HEIGHT - BOTTOM - TOP);

function frame(name, xWords, yWords) {
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": name });
  for (const value of [0, 0.5, 1]) {
    svg.append(
      draw("line", { class: "rule", x1: across(value), x2: across(value), y1: up(0), y2: up(1) }),
      draw("text", { class: "tick middle", x: across(value), y: HEIGHT - 12 }, String(value)),
    );
  }
  svg.append(
    draw("text", { class: "tick middle", x: across(0.5), y: HEIGHT - 1 }, xWords),
    draw("text", { class: "tick middle", transform: `translate(9 ${up(0.5)}) rotate(-90)` }, yWords),
  );
  return svg;
}

function unitRules(svg) {
  for (const value of [0, 0.5, 1]) {
    svg.append(
      draw("line", { class: "rule", x1: across(0), x2: across(1), y1: up(value), y2: up(value) }),
      draw("text", { class: "tick end", x: LEFT - 4, y: up(value) + 3 }, String(value)),
    );
  }
}

/** Scores of yes above, of no below; returns {svg, at(threshold)}. */
export function scoreChart(scores, answers) {
  const found = histogram(scores, answers, BINS);
  const most = Math.max(...found.yes, ...found.no, 1);
  const svg = frame("How often each score occurs: pictures decided yes upward, no downward", "score", "pictures");
  const width = (across(1) - across(0)) / BINS;
  const half = (HEIGHT - BOTTOM - TOP) / 2;
  for (let bin = 0; bin < BINS; bin += 1) {
    const x = across(bin / BINS) + 0.5;
    for (const [kind, sign] of [["yes", -1], ["no", 1]]) {
      const tall = (found[kind][bin] / most) * half;
      if (tall > 0) {
        svg.append(draw("rect", { class: `${kind}-bar`, x, width: width - 1, height: tall, y: up(0.5) - (sign < 0 ? tall : 0) },
          draw("title", {}, `${found[kind][bin]} decided ${kind}`)));
      }
    }
  }
  svg.append(draw("line", { class: "axis", x1: across(0), x2: across(1), y1: up(0.5), y2: up(0.5) }));
  svg.append(draw("text", { class: "tick end", x: LEFT - 4, y: TOP + 10 }, "yes"), draw("text", { class: "tick end", x: LEFT - 4, y: up(0) }, "no"));
  const cut = draw("line", { class: "cut", y1: TOP - 6, y2: up(0) });
  svg.append(cut);
  return {
    svg,
    at(threshold) {
      cut.setAttribute("x1", across(threshold));
      cut.setAttribute("x2", across(threshold));
    },
  };
}

/** Precision over recall; returns {svg, at(precision, recall)}. */
export function curveChart(scores, answers) {
  const points = curve(scores, answers);
  const svg = frame("Precision over recall", "recall", "precision");
  unitRules(svg);
  const step = Math.max(1, Math.floor(points.length / 600));
  const drawn = points.filter((_, index) => index % step === 0 || index === points.length - 1);
  const path = drawn.map(({ recall, precision }, index) => `${index ? "L" : "M"}${across(recall).toFixed(1)} ${up(precision).toFixed(1)}`);
  if (path.length > 0) svg.append(draw("path", { class: "curve", d: path.join("") }));
  const point = draw("circle", { class: "here", r: 4.5 });
  svg.append(point);
  return {
    svg,
    at(precision, recall) {
      const known = precision !== null && recall !== null;
      point.setAttribute("visibility", known ? "visible" : "hidden");
      if (known) {
        point.setAttribute("cx", across(recall));
        point.setAttribute("cy", up(precision));
      }
    },
  };
}

/** The share of yes at every score, with intervals, against the diagonal. */
export function calibrationChart(scores, answers, groups) {
  const svg = frame("Calibration: the share of yes at each score", "score", "share of yes");
  unitRules(svg);
  svg.append(draw("line", { class: "diagonal", x1: across(0), y1: up(0), x2: across(1), y2: up(1) }));
  for (const { score, share, count } of calibration(scores, answers, groups, 10)) {
    svg.append(
      draw("line", { class: "whisker", x1: across(score), x2: across(score), y1: up(share.low), y2: up(share.high) }),
      draw("circle", { class: "dot", cx: across(score), cy: up(share.value), r: 3 + Math.min(3, Math.log10(count)) },
        draw("title", {}, `score ${score.toFixed(2)}: ${share.value.toFixed(2)} of ${count} are yes`)),
    );
  }
  return svg;
}
