// Looks whether the invoice has changed, and shows it without a reload. The page works without.
"use strict";
const until = Date.now() + 15 * 60 * 1000;

function main() {
  return document.getElementById("main");
}

async function look() {
  if (!document.hidden) {
    try {
      const answer = await fetch(main().dataset.status + location.search);
      if (answer.ok) {
        const told = await answer.json();
        if (told.version !== main().dataset.version && (told.is_final || !isTyping())) {
          await renew(told.message);
        }
        if (told.is_final) return;
      }
    } catch {
      // No network: the next look may find some.
    }
  }
  if (Date.now() < until) setTimeout(look, Number(main().dataset.every) * 1000);
}

function isTyping() {
  return [...document.querySelectorAll("#number, #expiry, #cvc")].some((input) => input.value);
}

async function renew(message) {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.title = page.title;
  main().replaceWith(page.getElementById("main"));
  document.getElementById("live").textContent = message;
}

document.getElementById("alert")?.focus();
setTimeout(look, Number(main().dataset.every) * 1000);
