/* `/` puts the cursor into the search, Escape takes it out; on a phone the navigation shows where one is. All pages work
   without this file. */
const search = document.getElementById("q");
const navigation = document.querySelector("nav"), here = navigation?.querySelector("[aria-current]");
if (here) navigation.scrollLeft = here.offsetLeft - navigation.clientWidth / 2 + here.clientWidth / 2;

document.addEventListener("keydown", (event) => {
  const types = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !types && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "Escape" && event.target === search) {
    search.blur();
  }
});
