// Keeps the page of the stack up to date. Without it, loading the page again does the same.
"use strict";
(() => {
  const live = document.getElementById("live");
  const away = document.getElementById("away");
  const refresh = async () => {
    // Nobody is looking, or somebody is about to copy something.
    if (document.hidden || String(getSelection()) !== "") return;
    try {
      const answer = await fetch("/live" + location.search, { cache: "no-store" });
      if (!answer.ok) throw new Error(await answer.text());
      live.innerHTML = await answer.text();
      away.hidden = true;
    } catch {
      away.hidden = false;
    }
  };
  setInterval(refresh, 5000);
})();
