// The two kinds that no reading of the HTML finds.
fetch('/grown.json').then((answer) => answer.json()).then(({ name }) => {
  const image = document.createElement('img');
  image.src = name + '.jpg';
  document.getElementById('grown').append(image);
});
const shadow = document.getElementById('shadow').attachShadow({ mode: 'open' });
shadow.innerHTML = '<img alt="">';
shadow.querySelector('img').src = ['shadow', 'root'].join('-') + '.jpg';
