// Puts a picture in place of its placeholder when it comes near the window.
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) {
      target.src = target.dataset.src;
      near.unobserve(target);
    }
  }
}, { rootMargin: "200px" });
document.querySelectorAll("img.lazy").forEach((image) => near.observe(image));
