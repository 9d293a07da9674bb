"use strict";
for (const slider of document.querySelectorAll(".compare input")) {
  const place = () => {
    slider.parentElement.style.setProperty("--split", slider.value + "%");
    slider.setAttribute("aria-valuetext", slider.value + "% blurred, " + (100 - slider.value) + "% restored");
  };
  slider.addEventListener("input", place);
  place(); // a browser may remember where it was
}
