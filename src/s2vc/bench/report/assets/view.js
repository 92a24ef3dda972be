"use strict";
// The page of `s2vc view`: two files and perhaps their source, nothing to choose but which is left.

guarded(async () => {
  setUpTheme();
  const { rate, sides } = JSON.parse(await unpack("data"));
  const player = new Player(document.querySelector(".player"));
  const choices = { a: byId("choose-a"), b: byId("choose-b") };
  for (const select of Object.values(choices)) {
    for (const side of Object.keys(sides)) select.append(make("option", { value: side }, sides[side].label));
  }
  choices.a.value = "a";
  choices.b.value = "b";
  const open = (keep) => player.open(
    { source: sides.source, a: sides[choices.a.value], b: sides[choices.b.value] },
    { rate, aspect: (sides.source || sides.a).aspect, keep },
  );
  for (const select of Object.values(choices)) select.addEventListener("change", () => open(true));
  player.events.addEventListener("swap", () => {
    [choices.a.value, choices.b.value] = [choices.b.value, choices.a.value];
    open(true);
  });
  await open(false);
  player.stage.focus({ preventScroll: true });
});
