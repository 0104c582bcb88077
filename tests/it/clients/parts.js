// A Common TCP guest that asks for replies in parts, in a few lines of Node.

const net = require("node:net");
const readline = require("node:readline");

const guest = net.connect(Number(process.argv[2]), "127.0.0.1");
guest.write('dae [{"parts":true}]\ncount#7 [3]\n');
readline.createInterface({ input: guest }).on("line", (line) => {
  const space = line.indexOf(" ");
  const command = line.slice(0, space);
  const args = JSON.parse(line.slice(space + 1));
  if (command === "part#7") {
    console.log("item", args[0].item);
  } else if (command === "count#7") {
    console.log("end", JSON.stringify(args));
    guest.end();
  }
});
