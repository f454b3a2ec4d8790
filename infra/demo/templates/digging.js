// Endless scroll: asks for the next batch whenever the end of the list comes into view.
const crate = document.getElementById("crate");
const sentinel = document.getElementById("sentinel");

function figure({ src, title, price }) {
  const image = Object.assign(document.createElement("img"), { src, alt: title });
  const tag = Object.assign(document.createElement("span"), { className: "price", textContent: price });
  const caption = document.createElement("figcaption");
  caption.append(`${title} `, tag);
  const whole = document.createElement("figure");
  whole.append(image, caption);
  return whole;
}

const end = new IntersectionObserver(async ([{ isIntersecting }]) => {
  if (!isIntersecting) return;
  end.unobserve(sentinel);
  const answer = await fetch(sentinel.dataset.next);
  const { items, next } = await answer.json();
  crate.append(...items.map(figure));
  // A picture takes up room only once it is there; until then the end would seem to be in view.
  await Promise.allSettled([...crate.querySelectorAll("img")].map((image) => image.decode()));
  if (next) {
    sentinel.dataset.next = next;
    end.observe(sentinel);
  } else {
    sentinel.textContent = "That was the last of it.";
  }
});
end.observe(sentinel);
