// A person whose key points one drags by mouse, pen or finger, or moves by the arrow keys, far with Shift. Delete or a
// double click hides a point, or shows it again. The library gives `element`, `props` and `trigger`, and draws
// figure.html anew whenever `props.value` changes; "input" tells the server.
const REACH = 0.08; // of the height: how near a press is to the point that it takes
const STEP = 0.01, FAR = 0.05;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const within = (part) => Math.min(1, Math.max(0, part));
let held = -1;

const change = (number, changed) => {
  const points = props.value.points.map((point, other) => (other === number ? changed(point) : point));
  props.value = { ...props.value, points };
};
const move = (number, x, y) => change(number, ([, , seen]) => [within(x), within(y), seen]);
const toggle = (number) => change(number, ([x, y, seen]) => [x, y, seen ? 0 : 1]);

const place = (event) => {
  const box = element.querySelector("svg").getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
};
const nearest = (x, y) => {
  const { points, ratio } = props.value;
  const far = points.map(([own, other]) => Math.hypot((own - x) * ratio, other - y));
  const least = Math.min(...far);
  return least < REACH ? far.indexOf(least) : -1;
};

element.addEventListener("pointerdown", (event) => {
  const svg = event.target.closest("svg");
  held = svg ? nearest(...place(event)) : -1;
  if (held < 0) return;
  event.preventDefault();
  svg.setPointerCapture(event.pointerId);
  element.querySelectorAll("circle")[held].focus({ preventScroll: true });
});
element.addEventListener("pointermove", (event) => held < 0 || move(held, ...place(event)));
for (const end of ["pointerup", "pointercancel"]) {
  element.addEventListener(end, () => {
    if (held >= 0) trigger("input");
    held = -1;
  });
}
element.addEventListener("dblclick", (event) => {
  const number = event.target.closest("svg") ? nearest(...place(event)) : -1;
  if (number < 0) return;
  toggle(number);
  trigger("input");
});
element.addEventListener("keydown", (event) => {
  const number = [...element.querySelectorAll("circle")].indexOf(event.target);
  const arrow = ARROWS[event.key], step = event.shiftKey ? FAR : STEP;
  if (number < 0 || !(arrow || event.key === "Delete" || event.key === "Backspace")) return;
  event.preventDefault();
  const [x, y] = props.value.points[number];
  if (arrow) move(number, x + step * arrow[0], y + step * arrow[1]);
  else toggle(number);
  trigger("input");
});
