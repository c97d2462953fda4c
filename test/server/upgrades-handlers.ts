export default { kept: { run: () => null } }
